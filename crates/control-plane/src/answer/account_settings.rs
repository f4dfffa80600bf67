//! Account settings: what may be set for the account or for one principal, and what holds where nothing is set
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-account-settings.html>).
//!
//! They are kept and told. One has an effect: `containerInsights` is what a new cluster's setting of that name is.

use std::collections::BTreeMap;

use ecs::operations::account_settings::{
    DeleteAccountSettingRequest, DeleteAccountSettingResponse, ListAccountSettingsRequest, ListAccountSettingsResponse,
    PutAccountSettingDefaultRequest, PutAccountSettingDefaultResponse, PutAccountSettingRequest,
    PutAccountSettingResponse,
};
use ecs::operations::shapes::Setting;
use ecs::operations::{ApiError, ErrorCode};

use super::{Answer, Context};
use crate::change::{Changes, Key, Record};
use crate::names;
use crate::page::{self, Asked, Page};
use crate::records::AccountSetting;
use crate::state::State;

/// One setting of the model.
struct Known {
    name: &'static str,
    /// Where nothing is set.
    default: &'static str,
    values: &'static [&'static str],
    /// "aws_managed account settings are read-only".
    aws_managed: bool,
}

const ENABLED: &[&str] = &["enabled", "disabled"];

/// "guardDutyActivate … is read-only"; long ARNs cannot be switched off since 2021-04-01.
const SETTINGS: [Known; 11] = [
    known("awsvpcTrunking", "disabled", ENABLED),
    known("containerInsights", "disabled", &["enabled", "disabled", "enhanced"]),
    known("containerInstanceLongArnFormat", "enabled", &["enabled"]),
    known("defaultLogDriverMode", "non-blocking", &["blocking", "non-blocking"]),
    known("fargateEventWindows", "disabled", ENABLED),
    known("fargateFIPSMode", "disabled", ENABLED),
    known("fargateTaskRetirementWaitPeriod", "7", &["0", "7", "14"]),
    Known { name: "guardDutyActivate", default: "off", values: &["on", "off"], aws_managed: true },
    known("serviceLongArnFormat", "enabled", &["enabled"]),
    known("tagResourceAuthorization", "on", &["on", "off"]),
    known("taskLongArnFormat", "enabled", &["enabled"]),
];

const fn known(name: &'static str, default: &'static str, values: &'static [&'static str]) -> Known {
    Known { name, default, values, aws_managed: false }
}

/// "You must use the root user when you set the Fargate wait time."
const ROOT_ONLY: &str = "fargateTaskRetirementWaitPeriod";
/// The account's default has this principal in the records.
const EVERYBODY: &str = "";

pub fn put(context: &mut Context, request: &PutAccountSettingRequest) -> Answer<PutAccountSettingResponse> {
    let principal = principal(context, &request.principal_arn)?;
    let (setting, changes) = set(context, &principal, &request.name, &request.value)?;
    Ok((PutAccountSettingResponse { setting: Some(setting) }, changes))
}

pub fn put_default(
    context: &mut Context,
    request: &PutAccountSettingDefaultRequest,
) -> Answer<PutAccountSettingDefaultResponse> {
    let (setting, changes) = set(context, &root(context), &request.name, &request.value)?;
    Ok((PutAccountSettingDefaultResponse { setting: Some(setting) }, changes))
}

fn set(
    context: &Context,
    principal: &str,
    name: &Option<String>,
    value: &Option<String>,
) -> Result<(Setting, Changes), ApiError> {
    let known = named(names::required(name, "Name")?)?;
    let value = names::required(value, "Value")?;
    if known.aws_managed {
        let message = format!("The account setting {} is managed by AWS and cannot be changed.", known.name);
        return Err(ApiError::invalid(message));
    }
    let value = names::one_of(value, known.values, "value")?;
    if known.name == ROOT_ONLY && principal != root(context) {
        return Err(ApiError::invalid(format!("You must use the root user when you set {ROOT_ONLY}.")));
    }
    let record = AccountSetting {
        principal: kept(context, principal).to_owned(),
        name: known.name.to_owned(),
        value: value.to_owned(),
    };
    let mut changes = Changes::default();
    changes.put(Record::AccountSetting(record));
    Ok((shown(known, value, principal), changes))
}

pub fn delete(context: &mut Context, request: &DeleteAccountSettingRequest) -> Answer<DeleteAccountSettingResponse> {
    let known = named(names::required(&request.name, "Name")?)?;
    let principal = principal(context, &request.principal_arn)?;
    let holder = kept(context, &principal).to_owned();
    let key = (holder.clone(), known.name.to_owned());
    let mut changes = Changes::default();
    if context.state.account_settings.contains_key(&key) {
        changes.remove(Key::AccountSetting(key.0, key.1));
    }
    // What holds from now on: the account's default, unless that is what goes.
    let value = if holder == EVERYBODY { known.default } else { effective(context.state, EVERYBODY, known) };
    Ok((DeleteAccountSettingResponse { setting: Some(shown(known, value, &principal)) }, changes))
}

pub fn list(context: &mut Context, request: &ListAccountSettingsRequest) -> Answer<ListAccountSettingsResponse> {
    let only = request.name.as_deref().map(named).transpose()?;
    if request.value.is_some() && only.is_none() {
        return Err(ApiError::invalid("You must also specify an account setting name to filter by value."));
    }
    let principal = principal(context, &request.principal_arn)?;
    let effective = request.effective_settings == Some(true);
    let effective_text = effective.to_string();
    let filters = [request.name.as_deref(), request.value.as_deref(), Some(&principal), Some(&effective_text)];
    let page = Page::read(Asked {
        operation: "ListAccountSettings",
        filters: &filters,
        max_results: request.max_results,
        next_token: request.next_token.as_deref(),
        limits: page::SHORT,
    })?;
    let settings: BTreeMap<&str, Setting> = SETTINGS
        .iter()
        .filter(|known| only.is_none_or(|only| only.name == known.name))
        .filter_map(|known| Some((known.name, of_principal(context, &principal, effective, known)?)))
        .filter(|(_, setting)| request.value.is_none() || setting.value == request.value)
        .collect();
    let after = settings.into_iter().filter(|(name, _)| page.after().is_none_or(|after| *name > after));
    let (settings, next_token) = page.cut(after.map(|(name, setting)| (name.to_owned(), setting)));
    Ok((ListAccountSettingsResponse { settings, next_token }, Changes::default()))
}

/// "If false, the account settings for the principalArn are returned if they're set."
fn of_principal(context: &Context, principal: &str, effective: bool, known: &Known) -> Option<Setting> {
    let state = context.state;
    if let Some(own) = state.account_settings.get(&(kept(context, principal).to_owned(), known.name.to_owned())) {
        return Some(shown(known, &own.value, principal));
    }
    effective.then(|| shown(known, self::effective(state, EVERYBODY, known), &root(context)))
}

/// The value that holds for a principal of whom nothing is known but that it is not the one who set it.
pub fn default_of(state: &State, name: &str) -> Option<String> {
    let known = SETTINGS.iter().find(|known| known.name == name)?;
    Some(effective(state, EVERYBODY, known).to_owned())
}

fn effective<'a>(state: &'a State, holder: &str, known: &Known) -> &'a str {
    let set = state.account_settings.get(&(holder.to_owned(), known.name.to_owned()));
    set.map_or(known.default, |setting| &setting.value)
}

fn named(name: &str) -> Result<&'static Known, ApiError> {
    SETTINGS.iter().find(|known| known.name == name).ok_or_else(|| {
        let names: Vec<&str> = SETTINGS.iter().map(|known| known.name).collect();
        ApiError::invalid(format!("{name} should be one of [{}]", names.join(",")))
    })
}

fn shown(known: &Known, value: &str, principal: &str) -> Setting {
    Setting {
        name: Some(known.name.to_owned()),
        value: Some(value.to_owned()),
        principal_arn: Some(principal.to_owned()),
        kind: Some(if known.aws_managed { "aws_managed" } else { "user" }.to_owned()),
    }
}

/// "In order to use this parameter, you must be the root user, or the principal."
fn principal(context: &Context, given: &Option<String>) -> Result<String, ApiError> {
    let caller = &context.caller.principal_arn;
    let Some(given) = given else { return Ok(caller.clone()) };
    if !given.starts_with("arn:") || !given.contains(":iam:") {
        return Err(ApiError::invalid(format!(
            "principalArn is not the ARN of a user, a role or the root user: {given}"
        )));
    }
    if given == caller || *caller == root(context) {
        return Ok(given.clone());
    }
    let message = format!("User: {caller} is not authorized to use the account settings of {given}");
    Err(ApiError::new(ErrorCode::AccessDenied, message))
}

fn root(context: &Context) -> String {
    format!("arn:aws:iam::{}:root", context.caller.account_id)
}

/// Under which principal a setting is kept. "If you specify the root user, it modifies the account setting for all users,
/// roles, and the root user of the account unless a user or role explicitly overrides these settings."
fn kept<'a>(context: &Context, principal: &'a str) -> &'a str {
    if principal == root(context) { EVERYBODY } else { principal }
}
