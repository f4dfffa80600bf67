//! A command line as the words that a POSIX shell would make of it, without what a shell does beside that: there is no
//! shell here, and nothing is expanded (<https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html>, 2.2).

/// Nothing where a quote has no end.
pub(super) fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '\'' => break,
                        letter => word.push(letter),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '"' => break,
                        '\\' => match letters.next()? {
                            '\n' => {}
                            letter @ ('$' | '`' | '"' | '\\') => word.push(letter),
                            letter => word.extend(['\\', letter]),
                        },
                        letter => word.push(letter),
                    }
                }
            }
            '\\' => match letters.next()? {
                '\n' => {}
                letter => word.get_or_insert_default().push(letter),
            },
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_a_shells() {
        let cases: [(&str, Option<&[&str]>); 9] = [
            ("/bin/sh", Some(&["/bin/sh"])),
            ("  ls\t-l\n /tmp ", Some(&["ls", "-l", "/tmp"])),
            ("sh -c 'echo \"a  b\"'", Some(&["sh", "-c", "echo \"a  b\""])),
            (r#"a"b c"d '' """#, Some(&["ab cd", "", ""])),
            (r#""\$x \n \"" \$x"#, Some(&[r#"$x \n ""#, "$x"])),
            ("", Some(&[])),
            ("'open", None),
            ("\"open", None),
            ("open\\", None),
        ];
        for (line, words) in cases {
            let words = words.map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
            assert_eq!(split(line), words, "{line}");
        }
    }
}
