//! Account settings.

use serde_json::{Value, json};

use crate::world::{ROOT, World};

const USER: &str = "arn:aws:iam::123456789012:user/ann";

fn values(answer: &Value) -> Vec<(&str, &str, &str)> {
    let settings = answer["settings"].as_array().expect("a list");
    settings
        .iter()
        .map(|one| {
            let text = |member: &str| one[member].as_str().unwrap_or_default();
            (text("name"), text("value"), text("principalArn"))
        })
        .collect()
}

#[test]
fn without_any_the_defaults_are_in_effect() {
    let mut world = World::new();
    assert_eq!(world.call("ListAccountSettings", json!({})), json!({"settings": []}));
    let first = world.call("ListAccountSettings", json!({"effectiveSettings": true}));
    let rest = world.call("ListAccountSettings", json!({"effectiveSettings": true, "nextToken": first["nextToken"]}));
    let mut all = values(&first);
    assert_eq!(all.len(), 10);
    all.extend(values(&rest));
    assert_eq!(
        all,
        [
            ("awsvpcTrunking", "disabled", ROOT),
            ("containerInsights", "disabled", ROOT),
            ("containerInstanceLongArnFormat", "enabled", ROOT),
            ("defaultLogDriverMode", "non-blocking", ROOT),
            ("fargateEventWindows", "disabled", ROOT),
            ("fargateFIPSMode", "disabled", ROOT),
            ("fargateTaskRetirementWaitPeriod", "7", ROOT),
            ("guardDutyActivate", "off", ROOT),
            ("serviceLongArnFormat", "enabled", ROOT),
            ("tagResourceAuthorization", "on", ROOT),
            ("taskLongArnFormat", "enabled", ROOT),
        ]
    );
    assert_eq!(first["settings"][7]["type"], "aws_managed");
}

#[test]
fn a_principals_own_setting_stands_before_the_accounts() {
    let mut world = World::new();
    let name = "containerInsights";
    world.call("PutAccountSettingDefault", json!({"name": name, "value": "enabled"}));
    let own = world.call("PutAccountSetting", json!({"name": name, "value": "enhanced", "principalArn": USER}));
    let expected = json!({"name": name, "value": "enhanced", "principalArn": USER, "type": "user"});
    assert_eq!(own["setting"], expected);
    let list = |world: &mut World, principal: &str, effective: bool| {
        let request = json!({"name": name, "principalArn": principal, "effectiveSettings": effective});
        world.call("ListAccountSettings", request)["settings"].clone()
    };
    assert_eq!(list(&mut world, USER, true), json!([expected]));
    assert_eq!(list(&mut world, ROOT, false)[0]["value"], "enabled");
    let other = "arn:aws:iam::123456789012:role/deploy";
    assert_eq!(list(&mut world, other, false), json!([]));
    assert_eq!(list(&mut world, other, true)[0]["principalArn"], ROOT);
    assert_eq!(world.call("CreateCluster", json!({}))["cluster"]["settings"][0]["value"], "enabled");
    let deleted = world.call("DeleteAccountSetting", json!({"name": name, "principalArn": USER}));
    assert_eq!(deleted["setting"]["value"], "enabled");
    assert_eq!(list(&mut world, USER, false), json!([]));
    let deleted = world.call("DeleteAccountSetting", json!({"name": name}));
    assert_eq!(deleted["setting"]["value"], "disabled");
}

#[test]
fn refusals() {
    let mut world = World::new();
    let put = |name: &str, value: &str| json!({"name": name, "value": value});
    world.refuses("PutAccountSetting", &[
        (json!({}), "InvalidParameterException: Name can not be blank."),
        (
            put("unknown", "enabled"),
            "InvalidParameterException: unknown should be one of [awsvpcTrunking,containerInsights,\
             containerInstanceLongArnFormat,defaultLogDriverMode,fargateEventWindows,fargateFIPSMode,\
             fargateTaskRetirementWaitPeriod,guardDutyActivate,serviceLongArnFormat,tagResourceAuthorization,taskLongArnFormat]",
        ),
        (put("awsvpcTrunking", "on"), "InvalidParameterException: value should be one of [enabled,disabled]"),
        (put("fargateTaskRetirementWaitPeriod", "3"), "InvalidParameterException: value should be one of [0,7,14]"),
        (
            put("guardDutyActivate", "on"),
            "InvalidParameterException: The account setting guardDutyActivate is managed by AWS and cannot be changed.",
        ),
        (
            json!({"name": "awsvpcTrunking", "value": "enabled", "principalArn": "ann"}),
            "InvalidParameterException: principalArn is not the ARN of a user, a role or the root user: ann",
        ),
        (
            json!({"name": "fargateTaskRetirementWaitPeriod", "value": "0", "principalArn": USER}),
            "InvalidParameterException: You must use the root user when you set fargateTaskRetirementWaitPeriod.",
        ),
    ]);
    assert_eq!(
        world.refused("ListAccountSettings", json!({"value": "enabled"})),
        "InvalidParameterException: You must also specify an account setting name to filter by value."
    );
    world.caller.principal_arn = USER.to_owned();
    assert_eq!(
        world.refused("ListAccountSettings", json!({"principalArn": ROOT})),
        format!("AccessDeniedException: User: {USER} is not authorized to use the account settings of {ROOT}")
    );
}
