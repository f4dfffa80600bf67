//! Clusters.

use ecs::LaunchType;
use ecs::operations::clusters::{
    CreateClusterRequest, CreateClusterResponse, DeleteClusterRequest, DeleteClusterResponse, DescribeClustersRequest,
    DescribeClustersResponse, ListClustersRequest, ListClustersResponse, PutClusterCapacityProvidersRequest,
    PutClusterCapacityProvidersResponse, UpdateClusterRequest, UpdateClusterResponse, UpdateClusterSettingsRequest,
    UpdateClusterSettingsResponse,
};
use ecs::operations::shapes::{
    self, ClusterConfiguration, ClusterServiceConnectDefaults, ClusterServiceConnectDefaultsRequest, ClusterSetting,
    Failure,
};
use ecs::operations::{ApiError, ErrorCode};
use ecs::task_definition::KeyValuePair;

use super::{Answer, Context, account_settings, capacity_providers, tags};
use crate::change::{Changes, Record};
use crate::counts::{Counts, Phase};
use crate::names::{self, DEFAULT_CLUSTER};
use crate::page::{self, Asked, Page};
use crate::records::Cluster;
use crate::state::State;

/// "A list of up to 100 cluster names".
const MAX_DESCRIBED: usize = 100;
/// "Clusters per account - 10,000" (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html>),
/// deleted ones that are still described among them.
const MAX_CLUSTERS: usize = 10_000;
const FIELDS: [&str; 5] = ["ATTACHMENTS", "CONFIGURATIONS", "SETTINGS", "STATISTICS", "TAGS"];
/// The one cluster setting, which is an account setting as well.
const INSIGHTS: &str = "containerInsights";
const INSIGHTS_VALUES: [&str; 3] = ["enabled", "disabled", "enhanced"];
const LOGGING: [&str; 3] = ["NONE", "DEFAULT", "OVERRIDE"];
/// What launch types are called in statistics, and the launch types themselves.
const STATISTICS: [(&str, LaunchType); 3] =
    [("EC2", LaunchType::Ec2), ("Fargate", LaunchType::Fargate), ("External", LaunchType::External)];

/// "CreateCluster is idempotent by name"; an INACTIVE cluster of the name comes back to life as a new one.
pub fn create(context: &mut Context, request: &CreateClusterRequest) -> Answer<CreateClusterResponse> {
    let name = request.cluster_name.as_deref().unwrap_or(DEFAULT_CLUSTER);
    if !names::is_name(name) {
        return Err(ApiError::invalid(format!("Cluster must match ^[a-zA-Z0-9\\-_]{{1,255}}$, but was {name}")));
    }
    let wanted = wanted(context, name, request)?;
    if let Some(cluster) = context.state.clusters.get(name).filter(|cluster| cluster.active) {
        if !is_consistent(cluster, &wanted, request) {
            return Err(ApiError::invalid(
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
            ));
        }
        let shown = shown(context, cluster, Details::all());
        return Ok((CreateClusterResponse { cluster: Some(shown) }, Changes::default()));
    }
    if context.state.clusters.size() >= MAX_CLUSTERS && !context.state.clusters.contains_key(name) {
        return Err(ApiError::client("The maximum number of clusters has been exceeded."));
    }
    let shown = shown(context, &wanted, Details::all());
    let mut changes = Changes::default();
    changes.put(Record::Cluster(wanted));
    Ok((CreateClusterResponse { cluster: Some(shown) }, changes))
}

fn wanted(context: &Context, name: &str, request: &CreateClusterRequest) -> Result<Cluster, ApiError> {
    let providers = request.capacity_providers.as_deref().unwrap_or_default();
    let capacity_providers = capacity_providers::associated(context.state, providers)?;
    let strategy = request.default_capacity_provider_strategy.as_deref().unwrap_or_default();
    let default_strategy = capacity_providers::strategy(strategy, &capacity_providers)?;
    let settings = match &request.settings {
        Some(settings) if !settings.is_empty() => checked_settings(settings)?,
        _ => default_settings(context.state),
    };
    Ok(Cluster {
        name: name.to_owned(),
        active: true,
        settings,
        configuration: request.configuration.as_ref().map(checked_configuration).transpose()?,
        service_connect_namespace: namespace(&request.service_connect_defaults)?,
        capacity_providers,
        default_strategy,
        tags: tags::checked(&request.tags)?,
        changed_at: context.now,
    })
}

/// Members that the request leaves out are not compared.
fn is_consistent(cluster: &Cluster, wanted: &Cluster, request: &CreateClusterRequest) -> bool {
    let same_tags =
        || cluster.tags.len() == wanted.tags.len() && wanted.tags.iter().all(|tag| cluster.tags.contains(tag));
    (request.settings.is_none() || cluster.settings == wanted.settings)
        && (request.configuration.is_none() || cluster.configuration == wanted.configuration)
        && (request.capacity_providers.is_none() || cluster.capacity_providers == wanted.capacity_providers)
        && (request.default_capacity_provider_strategy.is_none() || cluster.default_strategy == wanted.default_strategy)
        && (request.service_connect_defaults.is_none()
            || cluster.service_connect_namespace == wanted.service_connect_namespace)
        && (request.tags.is_none() || same_tags())
}

pub fn describe(context: &mut Context, request: &DescribeClustersRequest) -> Answer<DescribeClustersResponse> {
    names::included(&request.include, &FIELDS)?;
    let default = Some(vec![DEFAULT_CLUSTER.to_owned()]);
    let given = if request.clusters.as_ref().is_none_or(Vec::is_empty) { &default } else { &request.clusters };
    let given = names::required_list(given, "Clusters", MAX_DESCRIBED)?;
    let details = Details::of(&request.include);
    let mut response = DescribeClustersResponse::default();
    for given in given {
        let name = names::cluster_name(Some(given))?;
        match context.state.clusters.get(name) {
            Some(cluster) => response.clusters.push(shown(context, cluster, details)),
            None => response.failures.push(Failure {
                arn: Some(names::missing_arn(given, |name| context.account().cluster(name))),
                reason: Some("MISSING".to_owned()),
                detail: None,
            }),
        }
    }
    Ok((response, Changes::default()))
}

/// ACTIVE ones only.
pub fn list(context: &mut Context, request: &ListClustersRequest) -> Answer<ListClustersResponse> {
    let page = Page::read(Asked {
        operation: "ListClusters",
        filters: &[],
        max_results: request.max_results,
        next_token: request.next_token.as_deref(),
        limits: page::LONG,
    })?;
    let clusters = context.state.clusters.range::<String, _>(page.bounds()).filter(|(_, cluster)| cluster.active);
    let listed = clusters.map(|(name, _)| (name.clone(), context.account().cluster(name)));
    let (cluster_arns, next_token) = page.cut(listed);
    Ok((ListClustersResponse { cluster_arns, next_token }, Changes::default()))
}

pub fn update(context: &mut Context, request: &UpdateClusterRequest) -> Answer<UpdateClusterResponse> {
    names::required(&request.cluster, "Cluster")?;
    let mut cluster = (**context.state.cluster(&request.cluster)?).clone();
    if let Some(settings) = &request.settings {
        cluster.settings = merged_settings(&cluster.settings, settings)?;
    }
    if let Some(configuration) = &request.configuration {
        cluster.configuration = Some(checked_configuration(configuration)?);
    }
    if request.service_connect_defaults.is_some() {
        cluster.service_connect_namespace = namespace(&request.service_connect_defaults)?;
    }
    let (shown, changes) = changed(context, cluster);
    Ok((UpdateClusterResponse { cluster: Some(shown) }, changes))
}

pub fn update_settings(
    context: &mut Context,
    request: &UpdateClusterSettingsRequest,
) -> Answer<UpdateClusterSettingsResponse> {
    names::required(&request.cluster, "Cluster")?;
    let mut cluster = (**context.state.cluster(&request.cluster)?).clone();
    let settings = request.settings.as_deref().unwrap_or_default();
    if settings.is_empty() {
        return Err(ApiError::invalid("Settings can not be empty."));
    }
    cluster.settings = merged_settings(&cluster.settings, settings)?;
    let (shown, changes) = changed(context, cluster);
    Ok((UpdateClusterSettingsResponse { cluster: Some(shown) }, changes))
}

pub fn put_capacity_providers(
    context: &mut Context,
    request: &PutClusterCapacityProvidersRequest,
) -> Answer<PutClusterCapacityProvidersResponse> {
    names::required(&request.cluster, "Cluster")?;
    let mut cluster = (**context.state.cluster(&request.cluster)?).clone();
    let missing = |member: &str| ApiError::invalid(format!("{member} can not be null."));
    let providers = request.capacity_providers.as_deref().ok_or_else(|| missing("capacityProviders"))?;
    let strategy = request.default_capacity_provider_strategy.as_deref();
    let strategy = strategy.ok_or_else(|| missing("defaultCapacityProviderStrategy"))?;
    let providers = capacity_providers::associated(context.state, providers)?;
    // "You can only disassociate an existing capacity provider from a cluster if it's not being used by any existing tasks."
    let goes =
        |name: &str| cluster.capacity_providers.iter().any(|had| had == name) && !providers.iter().any(|p| p == name);
    let in_use = context
        .state
        .cluster_tasks(&cluster.name)
        .any(|task| !task.is_stopped() && task.capacity_provider.as_deref().is_some_and(goes));
    if in_use {
        let message = "The specified capacity provider is in use and cannot be removed.";
        return Err(ApiError::new(ErrorCode::ResourceInUse, message));
    }
    cluster.default_strategy = capacity_providers::strategy(strategy, &providers)?;
    cluster.capacity_providers = providers;
    let (shown, changes) = changed(context, cluster);
    Ok((PutClusterCapacityProvidersResponse { cluster: Some(shown) }, changes))
}

/// ACTIVE to INACTIVE; of one that is INACTIVE already, nothing changes. Its tags and capacity providers go with it.
pub fn delete(context: &mut Context, request: &DeleteClusterRequest) -> Answer<DeleteClusterResponse> {
    let name = names::cluster_name(Some(names::required(&request.cluster, "Cluster")?))?;
    let cluster = context.state.clusters.get(name).ok_or_else(names::cluster_not_found)?;
    if !cluster.active {
        let shown = shown(context, cluster, Details::of(&None));
        return Ok((DeleteClusterResponse { cluster: Some(shown) }, Changes::default()));
    }
    if context.state.counts(name).registered_instances > 0 {
        let message = "The Cluster cannot be deleted while Container Instances are active or draining.";
        return Err(ApiError::new(ErrorCode::ClusterContainsContainerInstances, message));
    }
    if context.state.cluster_tasks(name).any(|task| !task.is_stopped()) {
        let message = "The Cluster cannot be deleted while Tasks are active.";
        return Err(ApiError::new(ErrorCode::ClusterContainsTasks, message));
    }
    let cluster = Cluster {
        active: false,
        tags: Vec::new(),
        capacity_providers: Vec::new(),
        default_strategy: Vec::new(),
        ..(**cluster).clone()
    };
    let (shown, changes) = changed(context, cluster);
    Ok((DeleteClusterResponse { cluster: Some(shown) }, changes))
}

fn changed(context: &Context, cluster: Cluster) -> (shapes::Cluster, Changes) {
    let cluster = Cluster { changed_at: context.now, ..cluster };
    let shown = shown(context, &cluster, Details::all());
    let mut changes = Changes::default();
    changes.put(Record::Cluster(cluster));
    (shown, changes)
}

/// What `include` asks for.
#[derive(Clone, Copy)]
struct Details {
    attachments: bool,
    configurations: bool,
    settings: bool,
    statistics: bool,
    tags: bool,
}

impl Details {
    fn of(include: &Option<Vec<String>>) -> Details {
        Details {
            attachments: names::includes(include, "ATTACHMENTS"),
            configurations: names::includes(include, "CONFIGURATIONS"),
            settings: names::includes(include, "SETTINGS"),
            statistics: names::includes(include, "STATISTICS"),
            tags: names::includes(include, "TAGS"),
        }
    }

    /// What changes a cluster shows all of it but the statistics.
    fn all() -> Details {
        Details { attachments: true, configurations: true, settings: true, statistics: false, tags: true }
    }
}

fn shown(context: &Context, cluster: &Cluster, details: Details) -> shapes::Cluster {
    let state = context.state;
    let counts = state.counts(&cluster.name);
    let namespace = cluster.service_connect_namespace.clone();
    shapes::Cluster {
        cluster_arn: Some(context.account().cluster(&cluster.name)),
        cluster_name: Some(cluster.name.clone()),
        configuration: details.configurations.then(|| cluster.configuration.clone()).flatten(),
        status: Some(if cluster.active { "ACTIVE" } else { "INACTIVE" }.to_owned()),
        registered_container_instances_count: Some(number(counts.registered_instances)),
        running_tasks_count: Some(number(all_in(&counts, Phase::Running))),
        pending_tasks_count: Some(number(all_in(&counts, Phase::Pending))),
        active_services_count: Some(0),
        statistics: if details.statistics { statistics_of(&counts) } else { Vec::new() },
        tags: if details.tags { cluster.tags.clone() } else { Vec::new() },
        settings: if details.settings { settings_of(state, cluster) } else { Vec::new() },
        capacity_providers: cluster.capacity_providers.clone(),
        default_capacity_provider_strategy: cluster.default_strategy.clone(),
        // What Amazon attaches are the scaling plans of Auto Scaling groups; there are none here.
        attachments: Vec::new(),
        attachments_status: (details.attachments && !cluster.capacity_providers.is_empty())
            .then(|| "UPDATE_COMPLETE".to_owned()),
        service_connect_defaults: namespace.map(|name| ClusterServiceConnectDefaults { namespace: Some(name) }),
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn all_in(counts: &Counts, phase: Phase) -> usize {
    STATISTICS.iter().map(|(_, launch_type)| counts.in_phase(*launch_type, phase)).sum()
}

fn statistics_of(counts: &Counts) -> Vec<KeyValuePair> {
    let pair = |name: String, value: usize| KeyValuePair { name, value: value.to_string() };
    let mut pairs = Vec::new();
    for (label, launch_type) in STATISTICS {
        pairs.push(pair(format!("running{label}TasksCount"), counts.in_phase(launch_type, Phase::Running)));
        pairs.push(pair(format!("pending{label}TasksCount"), counts.in_phase(launch_type, Phase::Pending)));
        pairs.push(pair(format!("active{label}ServiceCount"), 0));
        pairs.push(pair(format!("draining{label}ServiceCount"), 0));
    }
    pairs
}

/// A cluster that was made by the first instance to come has nothing set of its own.
fn settings_of(state: &State, cluster: &Cluster) -> Vec<ClusterSetting> {
    if cluster.settings.is_empty() { default_settings(state) } else { cluster.settings.clone() }
}

/// "If this value is specified, it overrides the containerInsights value set with PutAccountSetting."
fn default_settings(state: &State) -> Vec<ClusterSetting> {
    let value = account_settings::default_of(state, INSIGHTS);
    vec![ClusterSetting { name: Some(INSIGHTS.to_owned()), value }]
}

fn checked_settings(given: &[ClusterSetting]) -> Result<Vec<ClusterSetting>, ApiError> {
    for setting in given {
        let name = names::required(&setting.name, "Setting name")?;
        names::one_of(name, &[INSIGHTS], "Setting name")?;
        names::one_of(names::required(&setting.value, "Setting value")?, &INSIGHTS_VALUES, "Setting value")?;
    }
    // Of a setting that is given twice, the last counts.
    Ok(given.last().cloned().into_iter().collect())
}

fn merged_settings(had: &[ClusterSetting], given: &[ClusterSetting]) -> Result<Vec<ClusterSetting>, ApiError> {
    let given = checked_settings(given)?;
    Ok(if given.is_empty() { had.to_vec() } else { given })
}

/// "When logging=OVERRIDE is specified, a logConfiguration must be provided."
fn checked_configuration(given: &ClusterConfiguration) -> Result<ClusterConfiguration, ApiError> {
    if let Some(exec) = &given.execute_command_configuration {
        let logging = exec.logging.as_deref().unwrap_or("DEFAULT");
        names::one_of(logging, &LOGGING, "executeCommandConfiguration.logging")?;
        if (logging == "OVERRIDE") != exec.log_configuration.is_some() {
            let message =
                "executeCommandConfiguration.logConfiguration must be specified with logging OVERRIDE, and only then.";
            return Err(ApiError::invalid(message));
        }
    }
    Ok(given.clone())
}

/// "If you enter an existing Cloud Map namespace … If you specify an empty name, the namespace is removed." Namespaces are
/// not looked up: there is no Cloud Map here.
fn namespace(given: &Option<ClusterServiceConnectDefaultsRequest>) -> Result<Option<String>, ApiError> {
    let Some(defaults) = given else { return Ok(None) };
    let name = defaults.namespace.as_deref().ok_or_else(|| ApiError::invalid("Namespace can not be null."))?;
    Ok(Some(name.to_owned()).filter(|name| !name.is_empty()))
}
