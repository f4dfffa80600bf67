//! Operations: one function each, in a file by what it is about. A read has no changes.

pub mod account_settings;
pub mod attributes;
pub mod capacity_providers;
pub mod clusters;
pub mod container_instances;
pub mod discovery;
mod instance_resources;
pub mod tags;
pub mod task_definitions;
pub mod tasks;

use ecs::Timestamp;
use ecs::arn::Account;
use ecs::operations::{ApiError, Operation, Reply};

use crate::change::Changes;
use crate::input::{Caller, Ids};
use crate::state::State;

/// What an operation of every kind comes to.
pub type Answer<Response> = Result<(Response, Changes), ApiError>;

/// What an operation may look at besides the request.
pub struct Context<'a> {
    pub state: &'a State,
    pub caller: &'a Caller,
    pub now: Timestamp,
    pub ids: &'a mut dyn Ids,
}

pub fn answer(
    state: &State,
    caller: &Caller,
    operation: &Operation,
    now: Timestamp,
    ids: &mut dyn Ids,
) -> Answer<Reply> {
    let context = &mut Context { state, caller, now, ids };
    match operation {
        Operation::CreateCluster(request) => reply(clusters::create(context, request)),
        Operation::DeleteCluster(request) => reply(clusters::delete(context, request)),
        Operation::DescribeClusters(request) => reply(clusters::describe(context, request)),
        Operation::ListClusters(request) => reply(clusters::list(context, request)),
        Operation::UpdateCluster(request) => reply(clusters::update(context, request)),
        Operation::UpdateClusterSettings(request) => reply(clusters::update_settings(context, request)),
        Operation::PutClusterCapacityProviders(request) => reply(clusters::put_capacity_providers(context, request)),
        Operation::CreateCapacityProvider(request) => reply(capacity_providers::create(context, request)),
        Operation::UpdateCapacityProvider(request) => reply(capacity_providers::update(context, request)),
        Operation::DeleteCapacityProvider(request) => reply(capacity_providers::delete(context, request)),
        Operation::DescribeCapacityProviders(request) => reply(capacity_providers::describe(context, request)),
        Operation::RegisterTaskDefinition(request) => reply(task_definitions::register(context, request)),
        Operation::DeregisterTaskDefinition(request) => reply(task_definitions::deregister(context, request)),
        Operation::DeleteTaskDefinitions(request) => reply(task_definitions::delete(context, request)),
        Operation::DescribeTaskDefinition(request) => reply(task_definitions::describe(context, request)),
        Operation::ListTaskDefinitions(request) => reply(task_definitions::list(context, request)),
        Operation::ListTaskDefinitionFamilies(request) => reply(task_definitions::list_families(context, request)),
        Operation::RunTask(request) => reply(tasks::run(context, request)),
        Operation::StartTask(request) => reply(tasks::start(context, request)),
        Operation::StopTask(request) => reply(tasks::stop(context, request)),
        Operation::DescribeTasks(request) => reply(tasks::describe(context, request)),
        Operation::ListTasks(request) => reply(tasks::list(context, request)),
        Operation::ExecuteCommand(request) => reply(tasks::execute_command(context, request)),
        Operation::GetTaskProtection(request) => reply(tasks::get_protection(context, request)),
        Operation::UpdateTaskProtection(request) => reply(tasks::update_protection(context, request)),
        Operation::RegisterContainerInstance(request) => reply(container_instances::register(context, request)),
        Operation::DeregisterContainerInstance(request) => reply(container_instances::deregister(context, request)),
        Operation::DescribeContainerInstances(request) => reply(container_instances::describe(context, request)),
        Operation::ListContainerInstances(request) => reply(container_instances::list(context, request)),
        Operation::UpdateContainerInstancesState(request) => reply(container_instances::update_state(context, request)),
        Operation::UpdateContainerAgent(request) => reply(container_instances::update_agent(context, request)),
        Operation::PutAttributes(request) => reply(attributes::put(context, request)),
        Operation::DeleteAttributes(request) => reply(attributes::delete(context, request)),
        Operation::ListAttributes(request) => reply(attributes::list(context, request)),
        Operation::DiscoverPollEndpoint(request) => reply(discovery::poll_endpoint(context, request)),
        Operation::SubmitTaskStateChange(request) => reply(tasks::submit_task_state(context, request)),
        Operation::SubmitContainerStateChange(request) => reply(tasks::submit_container_state(context, request)),
        Operation::SubmitAttachmentStateChanges(request) => reply(tasks::submit_attachment_states(context, request)),
        Operation::PutAccountSetting(request) => reply(account_settings::put(context, request)),
        Operation::PutAccountSettingDefault(request) => reply(account_settings::put_default(context, request)),
        Operation::DeleteAccountSetting(request) => reply(account_settings::delete(context, request)),
        Operation::ListAccountSettings(request) => reply(account_settings::list(context, request)),
        Operation::TagResource(request) => reply(tags::tag(context, request)),
        Operation::UntagResource(request) => reply(tags::untag(context, request)),
        Operation::ListTagsForResource(request) => reply(tags::list(context, request)),
    }
}

impl Context<'_> {
    /// Whose resources the answer names: in the region that was asked.
    pub fn account(&self) -> Account<'_> {
        Account { region: &self.caller.region, account_id: &self.caller.account_id }
    }
}

fn reply<Response: Into<Reply>>(answer: Answer<Response>) -> Answer<Reply> {
    answer.map(|(response, changes)| (response.into(), changes))
}

/// Whether an operation never has changes, so that any snapshot of the state answers it.
pub fn is_read(operation: &Operation) -> bool {
    match operation {
        Operation::DescribeClusters(_)
        | Operation::ListClusters(_)
        | Operation::DescribeCapacityProviders(_)
        | Operation::DescribeTaskDefinition(_)
        | Operation::ListTaskDefinitions(_)
        | Operation::ListTaskDefinitionFamilies(_)
        | Operation::DescribeTasks(_)
        | Operation::ListTasks(_)
        | Operation::ExecuteCommand(_)
        | Operation::GetTaskProtection(_)
        | Operation::DescribeContainerInstances(_)
        | Operation::ListContainerInstances(_)
        | Operation::ListAttributes(_)
        | Operation::DiscoverPollEndpoint(_)
        | Operation::ListAccountSettings(_)
        | Operation::ListTagsForResource(_) => true,
        Operation::CreateCluster(_)
        | Operation::DeleteCluster(_)
        | Operation::UpdateCluster(_)
        | Operation::UpdateClusterSettings(_)
        | Operation::PutClusterCapacityProviders(_)
        | Operation::CreateCapacityProvider(_)
        | Operation::UpdateCapacityProvider(_)
        | Operation::DeleteCapacityProvider(_)
        | Operation::RegisterTaskDefinition(_)
        | Operation::DeregisterTaskDefinition(_)
        | Operation::DeleteTaskDefinitions(_)
        | Operation::RunTask(_)
        | Operation::StartTask(_)
        | Operation::StopTask(_)
        | Operation::UpdateTaskProtection(_)
        | Operation::RegisterContainerInstance(_)
        | Operation::DeregisterContainerInstance(_)
        | Operation::UpdateContainerInstancesState(_)
        | Operation::UpdateContainerAgent(_)
        | Operation::PutAttributes(_)
        | Operation::DeleteAttributes(_)
        | Operation::SubmitTaskStateChange(_)
        | Operation::SubmitContainerStateChange(_)
        | Operation::SubmitAttachmentStateChanges(_)
        | Operation::PutAccountSetting(_)
        | Operation::PutAccountSettingDefault(_)
        | Operation::DeleteAccountSetting(_)
        | Operation::TagResource(_)
        | Operation::UntagResource(_) => false,
    }
}
