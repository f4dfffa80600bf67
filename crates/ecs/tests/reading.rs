//! Hostile and broken JSON: each gets its own words and the place.

mod cpu_time;

use ecs::input::{MAX_FILE_BYTES, MAX_TASK_DEFINITION_BYTES, read};

fn refusal(text: &[u8]) -> String {
    read(text).err().map(|error| error.to_string()).unwrap_or_else(|| "read".to_owned())
}

#[test]
fn what_is_no_json_says_where_and_why() {
    for (text, why) in [
        (
            &b""[..],
            "the file is empty; a task definition is a JSON object: {\"family\": …, \"containerDefinitions\": […]}",
        ),
        (
            b" \n\t",
            "the file is empty; a task definition is a JSON object: {\"family\": …, \"containerDefinitions\": […]}",
        ),
        (
            b"{\"a\": \"\\ud800\"}",
            "line 1, column 14: half of a surrogate pair, which is no character; write both \\u escapes",
        ),
        (b"{\"a\": 1e999}", "line 1, column 11: a number beyond what JSON readers hold"),
        (b"{\n \"a\": \"x\0y\"}", "line 2, column 9: a NUL character, which no member of ECS can hold"),
        (b"{\n \"a\": \"\\u0000\"}", "line 2, column 14: a NUL character, which no member of ECS can hold"),
        (b"{\"\xc3\xb6\": \xff}", "line 1, column 7: not UTF-8 text; save the file as UTF-8"),
        (b"\xef\xbb\xbf{}", "line 1, column 1: the file starts with a byte order mark; save it as UTF-8 without one"),
        (
            b"\xff\xfe{\0}\0",
            "line 1, column 1: the file is UTF-16, as PowerShell's `>` writes it; save it as UTF-8 without a byte order mark",
        ),
        (b"{} {}", "line 1, column 4: more text after the end of the JSON value"),
        (b"{\n/* never", "line 2, column 1: this comment has no end; close it with */"),
        (b"{\"a\": [,]}", "line 1, column 8: a value is wanted here"),
        (b"{\"a\": [1,,]}", "line 1, column 10: a value is wanted here"),
        (b"{a: 1}", "line 1, column 2: a member name in double quotes is wanted here"),
        (b"{\"a\": \"x\ny\"}", "line 2, column 0"),
        (b"42", "a task definition is a JSON object in braces; this is a whole number"),
        (b"[]", "a task definition is a JSON object in braces; this is a list"),
    ] {
        let said = refusal(text);
        let wanted = if why.ends_with("column 0") {
            "line 2, column 1: a line break or control character inside a string; close the string or write \\n"
        } else {
            why
        };
        assert_eq!(said, wanted, "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn comments_and_trailing_commas_are_read_and_strings_are_left_alone() {
    let text = br#"// first
    { /* a */ "url": "http://x/*y*/", "quote": "\"// no comment", // "gone": 1,
      "list": [1, 2, /* and */ 3, // last
      ],
      "object": {"a": 1,}, }
    // end"#;
    let document = read(text).expect("comments are allowed");
    let wanted = serde_json::json!({
        "url": "http://x/*y*/", "quote": "\"// no comment", "list": [1, 2, 3], "object": {"a": 1}
    });
    assert_eq!(serde_json::Value::Object(document.value), wanted);
}

#[test]
fn positions_stay_true_behind_comments() {
    let said = refusal("{ /* größer */ \"a\": 1,\n  // ein Wörtchen\n  \"ä\": nul }".as_bytes());
    assert!(said.starts_with("line 3, column 11: "), "{said}");
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(nested(63).as_bytes()).is_ok());
    let said = refusal(nested(64).as_bytes());
    assert!(said.ends_with("nested deeper than 64 levels"), "{said}");
    let said = refusal(nested(500_000).as_bytes());
    assert!(said.ends_with("nested deeper than 64 levels"), "{said}");
}

#[test]
fn amazons_size_counts_neither_comments_nor_white_space_nor_read_only_members() {
    let with = |name: &str, length: usize| format!("{{\"family\": \"f\", \"{name}\": \"{}\"}}", "x".repeat(length));
    // {"family":"f","taskRoleArn":"…"}: 31 bytes around the text.
    let most = MAX_TASK_DEFINITION_BYTES - 31;
    assert!(read(with("taskRoleArn", most).as_bytes()).is_ok());
    assert_eq!(
        refusal(with("taskRoleArn", most + 1).as_bytes()),
        "the task definition is 65537 bytes of JSON; Amazon ECS allows 65536"
    );
    assert!(read(with("registeredBy", 100_000).as_bytes()).is_ok());
    let commented = format!("{{{} /* {} */}}", " ".repeat(100_000), "x".repeat(100_000));
    assert!(read(commented.as_bytes()).is_ok());
    let said = refusal(" ".repeat(MAX_FILE_BYTES + 1).as_bytes());
    assert_eq!(said, "the file is larger than 1048576 bytes; no more are read");
}

#[test]
fn many_comments_take_no_more_time_than_their_length() {
    // Quadratic work on a megabyte would be seen: half a minute and more.
    let comments = "/**/".repeat(MAX_FILE_BYTES / 4 - 1);
    let before = cpu_time::of_this_thread();
    assert!(read(format!("{{{comments}}}").as_bytes()).is_ok());
    let took = cpu_time::of_this_thread() - before;
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
}
