//! What an operator may set about how long things are kept and waited for. Milliseconds throughout.

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a STOPPED task is described. "Currently, stopped tasks appear in the returned results for at least one
    /// hour" (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html>).
    pub stopped_task_ms: u64,
    /// How many STOPPED tasks are kept at most; of more, the oldest go before their time.
    pub stopped_tasks: usize,
    /// How long an instance may be out of touch before its tasks count as lost. None: for ever, as at Amazon's, where
    /// the tasks of a disconnected agent run on and it is EC2 that tells of an instance's end.
    pub lost_instance_ms: Option<u64>,
    /// How long a task waits for an instance of its capacity provider. Amazon gives no figure.
    pub provisioning_ms: u64,
    /// How long a clientToken of RunTask is remembered
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ECS_Idempotency.html>).
    pub client_token_ms: u64,
    /// How long what is deleted is described: clusters, capacity providers, definitions, deregistered instances.
    pub inactive_ms: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            stopped_task_ms: 3 * HOUR_MS,
            stopped_tasks: 100_000,
            lost_instance_ms: None,
            provisioning_ms: 30 * MINUTE_MS,
            client_token_ms: DAY_MS,
            inactive_ms: HOUR_MS,
        }
    }
}
