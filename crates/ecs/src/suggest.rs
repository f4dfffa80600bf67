//! "Did you mean": the known name that a misspelt one is closest to.

/// Longer names than any of Amazon's are not compared.
const LONGEST: usize = 64;

/// The closest of `known`, if it is close: equal but for case and separators, or with few letters changed.
pub(crate) fn closest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > LONGEST {
        return None;
    }
    let given = folded(given);
    let most = match given.len() {
        0..=3 => 1,
        4..=7 => 2,
        _ => 3,
    };
    known
        .map(|name| (distance(&given, &folded(name)), name))
        .filter(|(distance, name)| *distance <= most && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Case and separators away: `port_mappings` and `PortMappings` are `portMappings`.
fn folded(name: &str) -> Vec<char> {
    name.chars().filter(|char| !matches!(char, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// Letters to insert, remove, change or swap with their neighbour (optimal string alignment).
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, to) in right.iter().enumerate() {
            let changed = last[column] + usize::from(from != to);
            let mut least = changed.min(last[column + 1] + 1).min(line[column] + 1);
            if row > 0 && column > 0 && *from == right[column - 1] && left[row - 1] == *to {
                least = least.min(before[column - 1] + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut last, line);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_keyboard_and_other_spellings_are_found() {
        let known = ["portMappings", "cpu", "memory", "memoryReservation", "image", "essential", "environment"];
        for (given, meant) in [
            ("portMapping", Some("portMappings")),
            ("port_mappings", Some("portMappings")),
            ("PortMappings", Some("portMappings")),
            ("CPU", Some("cpu")),
            ("memroy", Some("memory")),
            ("imgae", Some("image")),
            ("enviroment", Some("environment")),
            ("x", None),
            ("", None),
            ("restart", None),
        ] {
            assert_eq!(closest(given, known.into_iter()), meant, "{given}");
        }
    }
}
