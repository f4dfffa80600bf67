//! The cluster query language by its documentation's examples and at its edges.

use ecs::operations::shapes::Attribute;
use ecs::{ContainerInstanceId, Timestamp};
use proptest::prelude::*;
use scheduler::query::{Facts, MAX_EXPRESSION_CHARACTERS};
use scheduler::{Instance, InstanceStatus, Query, QueryError};

fn attribute(name: &str, value: Option<&str>) -> Attribute {
    Attribute { name: Some(name.to_owned()), value: value.map(str::to_owned), ..Attribute::default() }
}

fn instance() -> Instance {
    Instance {
        id: ContainerInstanceId::from_bytes([1; 16]),
        status: InstanceStatus::Active,
        agent_connected: true,
        agent_version: "1.10.2".to_owned(),
        host_name: "i-abcd1234".to_owned(),
        // 2018-06-18T22:28:28Z
        registered_at: Timestamp::from_epoch_ms(1_529_360_908_000),
        attributes: vec![
            attribute("ecs.instance-type", Some("g2.2xlarge")),
            attribute("ecs.availability-zone", Some("us-east-1a")),
            attribute("ecs.os-type", Some("linux")),
            attribute("com.amazonaws.ecs.capability.privileged-container", None),
            attribute("rack", Some("12")),
        ],
        cpu: 1024,
        memory_mib: 1024,
        reserved_tcp_ports: Vec::new(),
        reserved_udp_ports: Vec::new(),
        gpus: 0,
        interfaces: 1,
    }
}

fn matches(expression: &str) -> bool {
    let query = Query::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let instance = instance();
    query.matches(&Facts::new(&instance, 3, &["service:production", "family:web"]))
}

#[test]
fn expressions_of_the_documentation_and_around_them() {
    let table = [
        ("attribute:ecs.instance-type == t2.small", false),
        ("attribute:ecs.availability-zone in [us-east-1a, us-east-1b]", true),
        ("attribute:ecs.availability-zone !in [us-east-1a, us-east-1b]", false),
        ("attribute:ecs.instance-type =~ g2.* and attribute:ecs.availability-zone != us-east-1d", true),
        ("task:group == service:production", true),
        ("not(task:group == database)", true),
        ("!(task:group == family:web)", false),
        ("not (task:group == service:production)", false),
        ("runningTasksCount == 1", false),
        ("runningTasksCount > 2 && runningTasksCount <= 3", true),
        ("runningTasksCount < 10", true),
        ("ec2InstanceId == i-abcd1234", true),
        ("ec2InstanceId in ['i-abcd1234', \"i-wxyx7890\"]", true),
        ("agentVersion >= 1.9.0", true),
        ("agentVersion < 1.10.10", true),
        ("agentConnected == true", true),
        ("agentConnected == FALSE", false),
        ("registeredAt >= 2018-06-18T22:28:28+00:00", true),
        ("registeredAt > 2018-06-18 and registeredAt < 2018-06-19", true),
        ("registeredAt equals 2018-06-18T22:28:28Z", true),
        ("attribute:ecs.os-type exists", true),
        ("attribute:ecs.os-type !exists", false),
        ("attribute:gone not_exists", true),
        ("attribute:gone != x and attribute:gone !in [x] and attribute:gone !~ .*", true),
        ("attribute:gone == x or attribute:gone in [x] or attribute:gone =~ .* or attribute:gone > 1", false),
        ("attribute:com.amazonaws.ecs.capability.privileged-container exists", true),
        ("attribute:rack > 9", true),
        ("attribute:rack greater_than_equal 12 and attribute:rack less_than 100", true),
        ("attribute:ecs.instance-type =~ g2", false),
        ("attribute:ecs.instance-type =~ (g|t)2\\.[0-9]xlarge", true),
        ("(attribute:ecs.instance-type =~ (t2|g2).*)", true),
        ("attribute:ecs.os-type==linux&&attribute:rack!=13", true),
        // "and" binds before "or".
        ("attribute:rack == 12 or attribute:rack == 1 and attribute:rack == 2", true),
        ("(attribute:rack == 12 or attribute:rack == 1) and attribute:rack == 2", false),
    ];
    for (expression, expected) in table {
        assert_eq!(matches(expression), expected, "{expression}");
    }
}

#[test]
fn what_is_no_expression_is_told_where() {
    let table = [
        "",
        "   ",
        "attribute:",
        "attribute:a",
        "attribute:a ==",
        "attribute:a == [b]",
        "attribute:a ~ b",
        "rack == 1",
        "attribute:a in [b",
        "attribute:a in []",
        "attribute:a == b)",
        "(attribute:a == b",
        "attribute:a =~ (",
        "attribute:a == 'b",
        "attribute:a exists attribute:b exists",
        "attribute:a == b and",
        "or attribute:a exists",
        "registeredAt > yesterday",
        "attribute:a === b",
        "attribute:a =~ [",
        "not",
        "!",
        "()",
    ];
    for expression in table {
        assert!(Query::parse(expression).is_err(), "{expression}");
    }
    let long = format!("attribute:a == {}", "b".repeat(MAX_EXPRESSION_CHARACTERS));
    assert!(matches!(Query::parse(&long), Err(QueryError::TooLong { .. })));
    let deep = format!("{}attribute:a exists{}", "(".repeat(60), ")".repeat(60));
    assert_eq!(Query::parse(&deep).expect_err("too deep"), QueryError::TooDeep);
    assert_eq!(Query::parse(&"!".repeat(60)).expect_err("too deep"), QueryError::TooDeep);
    let nested = format!("{}attribute:rack exists{}", "(".repeat(50), ")".repeat(50));
    assert!(matches(&nested));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_is_too_much(text in "[a-z:=!<>&|()\\[\\],.~*' \"0-9-]{0,80}|.{0,40}") {
        let _ = Query::parse(&text);
    }

    /// Words of the language in any order are an expression or are not; an expression has an answer.
    #[test]
    fn any_words_of_the_language_have_an_answer(words in proptest::collection::vec(proptest::sample::select(vec![
        "attribute:rack", "attribute:ecs.os-type", "agentVersion", "agentConnected", "registeredAt", "runningTasksCount",
        "task:group", "ec2InstanceId", "==", "!=", "<", "<=", ">", ">=", "=~", "!~", "in", "not_in", "exists", "!exists",
        "and", "or", "not", "&&", "||", "!", "(", ")", "[", "]", ",", "12", "1.10.2", "2018-06-18T22:28:28+00:00", "g2.*",
        "'a b'", "[1,2]", "(.*)*x", "true", "-1", "99999999999999999999", "ä",
    ]), 0..12)) {
        if let Ok(query) = Query::parse(&words.join(" ")) {
            query.matches(&Facts::new(&instance(), 3, &["service:production"]));
        }
    }
}
