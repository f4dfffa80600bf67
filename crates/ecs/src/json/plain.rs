//! Comments and trailing commas, which JSON does not have and tutorials do.

use super::{JsonError, end_of};

/// Replaces comments and trailing commas by spaces, one for each character, so that positions stay true.
pub(super) fn without_comments(text: &str) -> Result<String, JsonError> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    // The last two characters that are neither white space nor comment; a comma with the place it was written to.
    let mut before_last = None;
    let mut last: Option<(char, usize)> = None;
    while let Some(char) = rest.next() {
        match (char, rest.peek().copied()) {
            ('"', _) => {
                plain.push('"');
                copy_string(&mut rest, &mut plain);
                (before_last, last) = (last, Some(('"', plain.len() - 1)));
            }
            ('/', Some('/')) => {
                plain.push(' ');
                while let Some(char) = rest.next_if(|char| *char != '\n') {
                    plain.push(if char == '\r' { '\r' } else { ' ' });
                }
            }
            ('/', Some('*')) => {
                let start = plain.len();
                plain.push(' ');
                blank_block(&mut rest, &mut plain).ok_or_else(|| JsonError::Syntax {
                    position: end_of(&plain[..start]),
                    what: "this comment has no end; close it with */".to_owned(),
                })?;
            }
            ('}' | ']', _) => {
                if let (Some((',', comma)), Some((value_end, _))) = (last, before_last)
                    && !matches!(value_end, ',' | '[' | '{' | ':')
                {
                    plain.replace_range(comma..=comma, " ");
                }
                plain.push(char);
                (before_last, last) = (last, Some((char, plain.len() - 1)));
            }
            (char, _) => {
                plain.push(char);
                if !char.is_ascii_whitespace() {
                    (before_last, last) = (last, Some((char, plain.len() - char.len_utf8())));
                }
            }
        }
    }
    Ok(plain)
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Copies up to and with the closing quote. A string without one is copied whole: the parser says where it began.
fn copy_string(rest: &mut Rest<'_>, plain: &mut String) {
    while let Some(char) = rest.next() {
        plain.push(char);
        match char {
            '"' => return,
            '\\' => plain.extend(rest.next()),
            _ => {}
        }
    }
}

/// Blanks a `/* */` comment whose `/` is gone already; `None` where it has no end.
fn blank_block(rest: &mut Rest<'_>, plain: &mut String) -> Option<()> {
    rest.next();
    plain.push(' ');
    loop {
        let char = rest.next()?;
        plain.push(if matches!(char, '\n' | '\r') { char } else { ' ' });
        if char == '*' && rest.next_if_eq(&'/').is_some() {
            plain.push(' ');
            return Some(());
        }
    }
}
