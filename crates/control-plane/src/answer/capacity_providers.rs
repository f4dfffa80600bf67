//! Capacity providers: Fargate's two, which are always there, and those of Auto Scaling groups. A group's ARN and its scaling
//! settings are kept and told; nothing is scaled here. Instances join a provider by an attribute of their own.

use std::collections::BTreeMap;

use ecs::operations::capacity_providers::{
    CreateCapacityProviderRequest, CreateCapacityProviderResponse, DeleteCapacityProviderRequest,
    DeleteCapacityProviderResponse, DescribeCapacityProvidersRequest, DescribeCapacityProvidersResponse,
    UpdateCapacityProviderRequest, UpdateCapacityProviderResponse,
};
use ecs::operations::shapes::{self, AutoScalingGroupProvider, CapacityProviderStrategyItem, Failure, ManagedScaling};
use ecs::operations::{ApiError, ErrorCode};
use serde_json::Value;

use super::{Answer, Context, tags};
use crate::change::{Changes, Record};
use crate::names;
use crate::page::{self, Asked, Page};
use crate::records::CapacityProvider;
use crate::state::State;

pub const FARGATE: &str = "FARGATE";
pub const FARGATE_SPOT: &str = "FARGATE_SPOT";
/// Amazon's own: any instance that fits takes their tasks.
pub(crate) const BUILT_IN: [&str; 2] = [FARGATE, FARGATE_SPOT];
/// "The name can't be prefixed with "aws", "ecs", or "fargate"."
const RESERVED_PREFIXES: [&str; 3] = ["aws", "ecs", "fargate"];
const MAX_DESCRIBED: usize = 100;
/// Of one cluster (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html>).
const MAX_PER_CLUSTER: usize = 20;
/// "A capacity provider strategy can contain a maximum of 20 capacity providers."
const MAX_STRATEGY_ITEMS: usize = 20;
const MAX_WEIGHT: i64 = 1000;
const MAX_BASE: i64 = 100_000;
const SWITCH: [&str; 2] = ["ENABLED", "DISABLED"];
const MAX_TARGET_CAPACITY: i64 = 100;
const MAX_SCALING_STEP: i64 = 10_000;
const MAX_WARM_UP_S: i64 = 10_000;
const DEFAULT_WARM_UP_S: i64 = 300;
/// Why `managedScaling` does nothing, where Amazon tells how an update went.
const NOT_SCALED: &str =
    "The settings are kept. Auto Scaling groups are not scaled here: instances join by themselves.";

pub fn create(
    context: &mut Context,
    request: &CreateCapacityProviderRequest,
) -> Answer<CreateCapacityProviderResponse> {
    let name = names::required(&request.name, "Name")?;
    if !names::is_name(name) {
        return Err(ApiError::invalid(format!(
            "Capacity provider must match ^[a-zA-Z0-9\\-_]{{1,255}}$, but was {name}"
        )));
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        let message = "The specified capacity provider name is invalid. Up to 255 characters are allowed. They include letters \
            (both upper and lowercase letters), numbers, underscores (_), and hyphens (-). The name can't be prefixed with \
            \"aws\", \"ecs\", or \"fargate\". Specify a valid name and try again.";
        return Err(ApiError::client(message));
    }
    refuse_managed_instances(&request.managed_instances_provider, &request.cluster)?;
    let group = request.auto_scaling_group_provider.as_ref();
    let group = group.ok_or_else(|| ApiError::invalid("autoScalingGroupProvider can not be null."))?;
    let group = checked(group)?;
    if find(context.state, name).is_some_and(|provider| provider.active) {
        let message = "The specified capacity provider already exists. To change the configuration of an existing capacity \
            provider, update the capacity provider.";
        return Err(ApiError::client(message));
    }
    let mut others = context.state.capacity_providers.values().filter(|other| other.active && other.name != name);
    if others.any(|other| is_same_group(&other.auto_scaling_group, &group)) {
        let message = "The specified Auto Scaling group ARN is already being used by another capacity provider. Specify a \
            unique Auto Scaling group ARN and try again.";
        return Err(ApiError::client(message));
    }
    let provider = CapacityProvider {
        name: name.to_owned(),
        active: true,
        auto_scaling_group: Some(group),
        updated: false,
        tags: tags::checked(&request.tags)?,
        changed_at: context.now,
    };
    let shown = Told { update_status: Some("CREATE_COMPLETE"), ..Told::plain(true) }.of(context, &provider);
    let mut changes = Changes::default();
    changes.put(Record::CapacityProvider(provider));
    Ok((CreateCapacityProviderResponse { capacity_provider: Some(shown) }, changes))
}

fn refuse_managed_instances(provider: &Option<Value>, cluster: &Option<String>) -> Result<(), ApiError> {
    if provider.is_none() && cluster.is_none() {
        return Ok(());
    }
    let message = "Capacity providers of Amazon ECS Managed Instances are not supported here: they presuppose instances that \
        AWS manages.";
    Err(ApiError::new(ErrorCode::UnsupportedFeature, message))
}

fn is_same_group(one: &Option<AutoScalingGroupProvider>, other: &AutoScalingGroupProvider) -> bool {
    one.as_ref().is_some_and(|one| one.auto_scaling_group_arn == other.auto_scaling_group_arn)
}

/// With Amazon's defaults for what is left out.
fn checked(given: &AutoScalingGroupProvider) -> Result<AutoScalingGroupProvider, ApiError> {
    let group = names::required(&given.auto_scaling_group_arn, "autoScalingGroupArn")?;
    let switch = |value: &Option<String>, member: &str, default: &str| {
        names::one_of(value.as_deref().unwrap_or(default), &SWITCH, member).map(|value| Some(value.to_owned()))
    };
    let scaling = checked_scaling(&given.managed_scaling.clone().unwrap_or_default())?;
    let protection = switch(&given.managed_termination_protection, "managedTerminationProtection", "DISABLED")?;
    if protection.as_deref() == Some("ENABLED") && scaling.status.as_deref() != Some("ENABLED") {
        let message = "The managed termination protection setting for the capacity provider is invalid. To enable managed \
            termination protection for a capacity provider, managed scaling must be enabled.";
        return Err(ApiError::client(message));
    }
    Ok(AutoScalingGroupProvider {
        auto_scaling_group_arn: Some(group.to_owned()),
        managed_scaling: Some(scaling),
        managed_termination_protection: protection,
        managed_draining: switch(&given.managed_draining, "managedDraining", "ENABLED")?,
    })
}

fn checked_scaling(given: &ManagedScaling) -> Result<ManagedScaling, ApiError> {
    let within = |value: Option<i64>, default: i64, from: i64, to: i64, member: &str| {
        let value = value.unwrap_or(default);
        if (from..=to).contains(&value) {
            return Ok(Some(value));
        }
        Err(ApiError::invalid(format!("managedScaling.{member} should be between {from} and {to}, but was {value}")))
    };
    let status = names::one_of(given.status.as_deref().unwrap_or("DISABLED"), &SWITCH, "managedScaling.status")?;
    let target_capacity = within(given.target_capacity, 100, 1, MAX_TARGET_CAPACITY, "targetCapacity")?;
    let least = within(given.minimum_scaling_step_size, 1, 1, MAX_SCALING_STEP, "minimumScalingStepSize")?;
    let most =
        within(given.maximum_scaling_step_size, MAX_SCALING_STEP, 1, MAX_SCALING_STEP, "maximumScalingStepSize")?;
    if least > most {
        let message = "managedScaling.minimumScalingStepSize can not be greater than maximumScalingStepSize.";
        return Err(ApiError::invalid(message));
    }
    let warm_up = within(given.instance_warmup_period, DEFAULT_WARM_UP_S, 0, MAX_WARM_UP_S, "instanceWarmupPeriod")?;
    Ok(ManagedScaling {
        status: Some(status.to_owned()),
        target_capacity,
        minimum_scaling_step_size: least,
        maximum_scaling_step_size: most,
        instance_warmup_period: warm_up,
    })
}

pub fn update(
    context: &mut Context,
    request: &UpdateCapacityProviderRequest,
) -> Answer<UpdateCapacityProviderResponse> {
    let name = names::capacity_provider(names::required(&request.name, "Name")?)?;
    refuse_managed_instances(&request.managed_instances_provider, &request.cluster)?;
    refuse_built_in(name, "updated")?;
    let mut provider = active(context.state, name)?;
    let given = request.auto_scaling_group_provider.as_ref();
    let given = given.ok_or_else(|| ApiError::invalid("autoScalingGroupProvider can not be null."))?;
    let had = provider.auto_scaling_group.clone().unwrap_or_default();
    let scaling = match (&given.managed_scaling, had.managed_scaling) {
        (Some(given), had) => Some(over(given, had.unwrap_or_default())),
        (None, had) => had,
    };
    provider.auto_scaling_group = Some(checked(&AutoScalingGroupProvider {
        auto_scaling_group_arn: had.auto_scaling_group_arn,
        managed_scaling: scaling,
        managed_termination_protection: given
            .managed_termination_protection
            .clone()
            .or(had.managed_termination_protection),
        managed_draining: given.managed_draining.clone().or(had.managed_draining),
    })?);
    (provider.updated, provider.changed_at) = (true, context.now);
    let shown = Told::plain(true).of(context, &provider);
    let mut changes = Changes::default();
    changes.put(Record::CapacityProvider(provider));
    Ok((UpdateCapacityProviderResponse { capacity_provider: Some(shown) }, changes))
}

fn over(given: &ManagedScaling, had: ManagedScaling) -> ManagedScaling {
    ManagedScaling {
        status: given.status.clone().or(had.status),
        target_capacity: given.target_capacity.or(had.target_capacity),
        minimum_scaling_step_size: given.minimum_scaling_step_size.or(had.minimum_scaling_step_size),
        maximum_scaling_step_size: given.maximum_scaling_step_size.or(had.maximum_scaling_step_size),
        instance_warmup_period: given.instance_warmup_period.or(had.instance_warmup_period),
    }
}

/// One that a cluster has stays as it is, and the answer's `updateStatus` says so, as Amazon's does.
pub fn delete(
    context: &mut Context,
    request: &DeleteCapacityProviderRequest,
) -> Answer<DeleteCapacityProviderResponse> {
    let name = names::capacity_provider(names::required(&request.capacity_provider, "CapacityProvider")?)?;
    refuse_managed_instances(&None, &request.cluster)?;
    refuse_built_in(name, "deleted")?;
    let mut provider = active(context.state, name)?;
    let mut clusters = context.state.clusters.values().filter(|cluster| cluster.active);
    if let Some(cluster) = clusters.find(|cluster| cluster.capacity_providers.iter().any(|one| one == name)) {
        let reason = format!(
            "The capacity provider cannot be deleted because it is associated with cluster: {}. Remove the capacity provider \
             from the cluster and try again.",
            cluster.name
        );
        let told = Told { update_status: Some("DELETE_FAILED"), reason: Some(reason), tags: true };
        let shown = told.of(context, &provider);
        return Ok((DeleteCapacityProviderResponse { capacity_provider: Some(shown) }, Changes::default()));
    }
    provider.active = false;
    provider.tags = Vec::new();
    provider.changed_at = context.now;
    let shown = Told::plain(false).of(context, &provider);
    let mut changes = Changes::default();
    changes.put(Record::CapacityProvider(provider));
    Ok((DeleteCapacityProviderResponse { capacity_provider: Some(shown) }, changes))
}

fn refuse_built_in(name: &str, what: &str) -> Result<(), ApiError> {
    if !BUILT_IN.contains(&name) {
        return Ok(());
    }
    Err(ApiError::client(format!("The {name} capacity provider is reserved and cannot be {what}.")))
}

pub fn describe(
    context: &mut Context,
    request: &DescribeCapacityProvidersRequest,
) -> Answer<DescribeCapacityProvidersResponse> {
    names::included(&request.include, &["TAGS"])?;
    let given = request.capacity_providers.as_deref().unwrap_or_default();
    if given.len() > MAX_DESCRIBED {
        return Err(ApiError::invalid(format!("capacityProviders can have at most {MAX_DESCRIBED} items.")));
    }
    // "When specified, only capacity providers associated with this cluster are returned."
    let cluster = request.cluster.as_ref().map(|_| context.state.cluster(&request.cluster)).transpose()?;
    let wanted = given.join(" ");
    let page = Page::read(Asked {
        operation: "DescribeCapacityProviders",
        filters: &[Some(&wanted), cluster.map(|cluster| cluster.name.as_str())],
        max_results: request.max_results,
        next_token: request.next_token.as_deref(),
        limits: page::SHORT,
    })?;
    let mut failures = Vec::new();
    let mut found = BTreeMap::new();
    if given.is_empty() {
        let own = context.state.capacity_providers.values().filter(|provider| provider.active);
        let built_in = BUILT_IN.iter().filter_map(|name| find(context.state, name));
        found.extend(built_in.chain(own.map(|own| (**own).clone())).map(|provider| (provider.name.clone(), provider)));
    }
    for given in given {
        let name = names::capacity_provider(given)?;
        match find(context.state, name) {
            Some(provider) => drop(found.insert(provider.name.clone(), provider)),
            // Once for all the pages.
            None if page.after().is_none() => failures.push(Failure {
                arn: Some(names::missing_arn(given, |name| context.account().capacity_provider(name))),
                reason: Some("MISSING".to_owned()),
                detail: None,
            }),
            None => {}
        }
    }
    found.retain(|name, _| cluster.is_none_or(|cluster| cluster.capacity_providers.contains(name)));
    let told = Told { tags: names::includes(&request.include, "TAGS"), ..Told::plain(false) };
    let after = found.into_iter().filter(|(name, _)| page.after().is_none_or(|after| name.as_str() > after));
    let (capacity_providers, next_token) = page.cut(after.map(|(name, provider)| (name, told.of(context, &provider))));
    Ok((DescribeCapacityProvidersResponse { capacity_providers, failures, next_token }, Changes::default()))
}

/// What an answer tells beside what is kept.
#[derive(Clone, Default)]
struct Told {
    update_status: Option<&'static str>,
    reason: Option<String>,
    tags: bool,
}

impl Told {
    fn plain(tags: bool) -> Told {
        Told { tags, ..Told::default() }
    }

    fn of(&self, context: &Context, provider: &CapacityProvider) -> shapes::CapacityProvider {
        let group = provider.auto_scaling_group.as_ref();
        let scaled = group
            .and_then(|group| group.managed_scaling.as_ref())
            .is_some_and(|scaling| scaling.status.as_deref() == Some("ENABLED"));
        let update_status = match (provider.active, self.update_status) {
            (false, _) => Some("DELETE_COMPLETE"),
            (true, Some(told)) => Some(told),
            // Clients ask for a description until it says so.
            (true, None) => provider.updated.then_some("UPDATE_COMPLETE"),
        };
        let not_scaled = (scaled && provider.active).then(|| NOT_SCALED.to_owned());
        shapes::CapacityProvider {
            capacity_provider_arn: Some(context.account().capacity_provider(&provider.name)),
            name: Some(provider.name.clone()),
            cluster: None,
            status: Some(if provider.active { "ACTIVE" } else { "INACTIVE" }.to_owned()),
            auto_scaling_group_provider: provider.auto_scaling_group.clone(),
            managed_instances_provider: None,
            update_status: update_status.map(str::to_owned),
            update_status_reason: self.reason.clone().or(not_scaled),
            tags: if self.tags { provider.tags.clone() } else { Vec::new() },
            kind: Some(if group.is_some() { "EC2_AUTOSCALING" } else { &provider.name }.to_owned()),
        }
    }
}

/// A capacity provider, INACTIVE ones and Fargate's included.
pub fn find(state: &State, name: &str) -> Option<CapacityProvider> {
    if let Some(provider) = state.capacity_providers.get(name) {
        return Some((**provider).clone());
    }
    let built_in = BUILT_IN.iter().find(|built_in| **built_in == name)?;
    Some(CapacityProvider {
        name: (*built_in).to_owned(),
        active: true,
        auto_scaling_group: None,
        updated: false,
        tags: Vec::new(),
        changed_at: ecs::Timestamp::from_epoch_ms(0),
    })
}

fn active(state: &State, name: &str) -> Result<CapacityProvider, ApiError> {
    find(state, name).filter(|provider| provider.active).ok_or_else(not_found)
}

fn not_found() -> ApiError {
    ApiError::invalid("The specified capacity provider was not found. Specify a valid capacity provider and try again.")
}

/// The names of the providers that a cluster is to have.
pub fn associated(state: &State, given: &[String]) -> Result<Vec<String>, ApiError> {
    let mut known: Vec<String> = Vec::new();
    for given in given {
        let name = names::capacity_provider(given).map_err(|_| not_found())?;
        let provider = find(state, name).ok_or_else(not_found)?;
        if !provider.active {
            return Err(ApiError::invalid(format!(
                "The specified capacity provider '{name}' is not in an ACTIVE state. Specify a valid capacity provider and \
                 try again."
            )));
        }
        if !known.contains(&provider.name) {
            known.push(provider.name);
        }
    }
    if known.len() > MAX_PER_CLUSTER {
        return Err(ApiError::invalid("The maximum number of capacity providers per cluster has been exceeded."));
    }
    Ok(known)
}

/// A strategy over the providers of a cluster, with each weight and base told
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CapacityProviderStrategyItem.html>).
pub fn strategy(
    given: &[CapacityProviderStrategyItem],
    of_cluster: &[String],
) -> Result<Vec<CapacityProviderStrategyItem>, ApiError> {
    if given.len() > MAX_STRATEGY_ITEMS {
        return Err(ApiError::invalid(format!(
            "capacityProviderStrategy can have at most {MAX_STRATEGY_ITEMS} items."
        )));
    }
    let mut items: Vec<CapacityProviderStrategyItem> = Vec::new();
    for item in given {
        let name = names::required(&item.capacity_provider, "capacityProvider")?;
        if !of_cluster.iter().any(|known| known == name) {
            return Err(ApiError::invalid(
                "The specified capacity provider strategy cannot contain a capacity provider that is not associated with the \
                 cluster. Associate the capacity provider with the cluster or specify a valid capacity provider and try again.",
            ));
        }
        if items.iter().any(|known| known.capacity_provider.as_deref() == Some(name)) {
            return Err(ApiError::invalid(format!(
                "The specified capacity provider strategy cannot contain duplicate capacity providers: {name}"
            )));
        }
        let (weight, base) = (item.weight.unwrap_or(0), item.base.unwrap_or(0));
        for (member, value, most) in [("weight", weight, MAX_WEIGHT), ("base", base, MAX_BASE)] {
            if !(0..=most).contains(&value) {
                return Err(ApiError::invalid(format!("{member} should be between 0 and {most}, but was {value}")));
            }
        }
        items.push(CapacityProviderStrategyItem {
            capacity_provider: Some(name.to_owned()),
            weight: Some(weight),
            base: Some(base),
        });
    }
    check_together(&items)?;
    Ok(items)
}

fn check_together(items: &[CapacityProviderStrategyItem]) -> Result<(), ApiError> {
    if items.iter().filter(|item| item.base.is_some_and(|base| base > 0)).count() > 1 {
        return Err(ApiError::invalid(
            "Only one capacity provider in a capacity provider strategy can have a base defined.",
        ));
    }
    // "A capacity provider strategy may only contain either Fargate or Auto Scaling group capacity providers."
    let is_fargate = |item: &CapacityProviderStrategyItem| {
        item.capacity_provider.as_deref().is_some_and(|name| BUILT_IN.contains(&name))
    };
    let fargate = items.iter().filter(|item| is_fargate(item)).count();
    if fargate == 0 || fargate == items.len() {
        return Ok(());
    }
    Err(ApiError::invalid(
        "The specified capacity provider strategy is invalid. A capacity provider strategy cannot contain a mix of capacity \
         providers using Auto Scaling groups and Fargate.",
    ))
}
