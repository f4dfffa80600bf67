//! Printing: whole answers, tables, JSON; and what the terminal can do.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::failure::{Explain, Failure};

/// Writes an answer to standard output. A reader that has gone away (`| head`) wanted no more: that is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.doing("writing to standard output"),
    }
}

pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value).doing("writing JSON")?;
    text.push('\n');
    print(&text)
}

/// Between two columns.
const GAP: usize = 3;
/// A column that is cut to fit keeps so much.
const LEAST_COLUMN: usize = 8;

/// Columns without lines, as `docker ps` and `ps` have them. On a terminal, cells that would not fit are cut.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let width = std::io::stdout().is_terminal().then(|| rustix::termios::tcgetwinsize(std::io::stdout()).ok());
    match width.flatten().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0) {
        Some(columns) => table_within(columns, header, rows),
        None => whole_table(header, rows),
    }
}

/// The widest columns give way; the first one, by which things are named, does not.
pub(crate) fn table_within(columns: usize, header: &[&str], mut rows: Vec<Vec<String>>) -> String {
    let length = |text: &str| text.chars().count();
    let width = |index: usize| rows.iter().map(|row| row.get(index).map_or(0, |cell| length(cell))).max().unwrap_or(0);
    let mut widths: Vec<usize> =
        header.iter().enumerate().map(|(index, name)| width(index).max(length(name))).collect();
    let gaps = GAP * header.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > columns {
        let widest = widths.iter_mut().skip(1).max();
        match widest.filter(|width| **width > LEAST_COLUMN) {
            Some(width) => *width -= 1,
            None => break,
        }
    }
    for (cell, width) in rows.iter_mut().flat_map(|row| row.iter_mut().zip(&widths)) {
        *cell = cut(cell, *width);
    }
    whole_table(header, rows)
}

/// At most so many characters, the last of which says that there are more.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn whole_table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP as u16));
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    if text.is_empty() {
        text.push('\n');
    }
    text
}

/// Whether colours are wanted on a stream: a terminal, and nobody said otherwise (<https://no-color.org>).
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stream.is_terminal() && !refused && !dumb
}

/// Text that came from a container or a file, made safe for a terminal: no control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    UNITS.iter().find(|(_, unit)| count >= *unit).map_or_else(
        || format!("{count} B"),
        |(name, unit)| {
            let value = count as f64 / *unit as f64;
            if value < 10.0 { format!("{value:.1} {name}") } else { format!("{value:.0} {name}") }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (count, text) in
            [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (42_000_000, "42 MB"), (1_234_567_890, "1.2 GB")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn a_table_has_columns_and_no_trailing_space() {
        let text = table(&["ID", "NAME"], vec![vec!["1".into(), "long name".into()], vec!["22".into(), String::new()]]);
        assert_eq!(text, "ID   NAME\n1    long name\n22\n");
    }

    #[test]
    fn a_table_fits_by_its_widest_cells() {
        let rows =
            vec![vec!["1f2e3d4c5b6a".into(), "a long definition:12".into(), "main, sidecar, router, agent".into()]];
        let text = table_within(50, &["TASK", "DEFINITION", "CONTAINERS"], rows.clone());
        assert_eq!(
            text,
            "TASK           DEFINITION         CONTAINERS\n1f2e3d4c5b6a   a long definiti…   main, sidecar, …\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 50));
        assert!(!table_within(80, &["TASK", "DEFINITION", "CONTAINERS"], rows).contains('…'));
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb"), "a\u{fffd}[31mb");
    }
}
