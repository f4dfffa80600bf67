//! Tasks as scripts: order, ends and stops.

mod player;

use ecs::Timestamp;
use ecs::task::StopCode;
use ecs::task_definition::ContainerDefinition;
use player::check;
use task_lifecycle::{ContainerRules, Event, TaskRun};

#[test]
fn the_one_container_ends() {
    check(
        &["app!"],
        &["1 up app", "2 exit app 3", "2 clean"],
        "
            start app
        1 up app
        2 exit app 3
            finished
        2 clean
        Stopped/Stopped started 1 stopping 2 executionStopped 2 stopped 2
        EssentialContainerExited by app: Essential container in task exited
        app Stopped 3
        ",
    );
}

#[test]
fn an_end_that_overtakes_its_start_was_running() {
    check(
        &["app!"],
        &["1 exit app 0", "1 up app", "2 clean"],
        "
            start app
        1 exit app 0
            finished
        1 up app
        2 clean
        Stopped/Stopped started 1 stopping 1 executionStopped 1 stopped 2
        EssentialContainerExited by app: Essential container in task exited
        app Stopped 0
        ",
    );
}

#[test]
fn out_of_memory_is_said() {
    check(
        &["app!"],
        &["1 up app", "2 oom app", "3 clean"],
        "
            start app
        1 up app
        2 oom app
            finished
        3 clean
        Stopped/Stopped started 1 stopping 2 executionStopped 2 stopped 3
        EssentialContainerExited by app: Essential container in task exited
        app Stopped 137 OutOfMemoryError: Container killed due to memory usage
        ",
    );
}

#[test]
fn a_stop_is_signal_timeout_kill() {
    check(
        &["app! stop=5"],
        &["1 up app", "2 stop", "6 tick", "7 tick", "7 tick", "8 exit app 137", "8 clean"],
        "
            start app
        1 up app
        2 stop
            Stop app
            until 7
        6 tick
            until 7
        7 tick
            Kill app
        7 tick
        8 exit app 137
            finished
        8 clean
        Stopped/Stopped started 1 stopping 2 executionStopped 8 stopped 8
        UserInitiated: Task stopped by user
        app Stopped 137
        ",
    );
}

#[test]
fn the_first_reason_stays_and_a_kill_spares_nobody() {
    check(
        &["db!", "web! <db:START"],
        &[
            "1 up db",
            "1 up web",
            "2 stop deploy",
            "3 stop again",
            "4 kill",
            "5 exit web 143",
            "5 exit db 137",
            "6 clean",
        ],
        "
            start db
        1 up db
            start web
        1 up web
        2 stop deploy
            Stop web
            until 32
        3 stop again
            until 32
        4 kill
            Kill db
            Kill web
        5 exit web 143
        5 exit db 137
            finished
        6 clean
        Stopped/Stopped started 1 stopping 2 executionStopped 5 stopped 6
        UserInitiated: deploy
        db Stopped 137
        web Stopped 143
        ",
    );
}

#[test]
fn an_essential_end_stops_the_others_in_reverse_order() {
    check(
        &["db", "cache <db:START stop=2", "web! <cache:START", "side"],
        &[
            "1 up db",
            "1 up side",
            "1 up cache",
            "2 up web",
            "9 exit web 1",
            "10 exit side 143",
            "11 tick",
            "12 exit cache 137",
            "13 exit db 0",
            "14 clean",
        ],
        "
            start db
            start side
        1 up db
            start cache
        1 up side
        1 up cache
            start web
        2 up web
        9 exit web 1
            Stop cache
            Stop side
            until 11
        10 exit side 143
            until 11
        11 tick
            Kill cache
        12 exit cache 137
            Stop db
            until 42
        13 exit db 0
            finished
        14 clean
        Stopped/Stopped started 2 stopping 9 executionStopped 9 stopped 14
        EssentialContainerExited by web: Essential container in task exited
        db Stopped 0
        cache Stopped 137
        web Stopped 1
        side Stopped 143
        ",
    );
}

#[test]
fn success_and_complete_are_waited_for() {
    check(
        &["init", "warm", "app! <init:SUCCESS <warm:COMPLETE"],
        &["1 up init", "1 up warm", "2 exit warm 9", "3 exit init 0", "4 up app"],
        "
            start init
            start warm
        1 up init
        1 up warm
        2 exit warm 9
        3 exit init 0
            start app
        4 up app
        Running/Running started 4 stopping - executionStopped - stopped -
        init Stopped 0
        warm Stopped 9
        app Running -
        ",
    );
}

#[test]
fn success_that_failed_stops_the_task_and_names_the_container() {
    check(
        &["init", "app! <init:SUCCESS"],
        &["1 up init", "2 exit init 4", "2 clean"],
        "
            start init
        1 up init
        2 exit init 4
            finished
        2 clean
        Stopped/Stopped started - stopping 2 executionStopped - stopped 2
        TaskFailedToStart: TaskDependencyError: failed to resolve container ordering dependency [init] for target [app] as dependency did not exit successfully (exit code 4)
        init Stopped 4
        app Stopped -
        ",
    );
}

#[test]
fn complete_of_a_container_that_never_ran_is_hopeless_but_start_is_not() {
    check(
        &["init", "side <init:START", "app! <init:COMPLETE"],
        &["1 broken init CannotStartContainerError: no such file", "2 clean"],
        "
            start init
        1 broken init CannotStartContainerError: no such file
            finished
        2 clean
        Stopped/Stopped started - stopping 1 executionStopped - stopped 2
        TaskFailedToStart: TaskDependencyError: failed to resolve container ordering dependency [init] for target [app] because dependency will never start
        init Stopped - CannotStartContainerError: no such file
        side Stopped -
        app Stopped -
        ",
    );
}

#[test]
fn the_start_timeout_counts_from_the_dependencys_start() {
    check(
        &["init start=10", "app! <init:COMPLETE"],
        &["3 up init", "12 tick", "13 tick", "14 exit init 143", "14 clean"],
        "
            start init
        3 up init
            until 13
        12 tick
            until 13
        13 tick
            Stop init
            until 43
        14 exit init 143
            finished
        14 clean
        Stopped/Stopped started - stopping 13 executionStopped - stopped 14
        TaskFailedToStart: TaskDependencyError: failed to resolve container ordering dependency [init] for target [app] has timed out
        init Stopped 143
        app Stopped -
        ",
    );
}

#[test]
fn an_essential_container_that_cannot_start_fails_the_task() {
    check(
        &["side", "app!"],
        &["1 up side", "1 broken app CannotStartContainerError: nope", "2 exit side 143", "2 clean"],
        "
            start side
            start app
        1 up side
        1 broken app CannotStartContainerError: nope
            Stop side
            until 31
        2 exit side 143
            finished
        2 clean
        Stopped/Stopped started - stopping 1 executionStopped 1 stopped 2
        TaskFailedToStart by app: Task failed to start
        side Stopped 143
        app Stopped - CannotStartContainerError: nope
        ",
    );
}

#[test]
fn a_container_that_starts_during_the_stop_is_stopped_when_it_is_up() {
    check(
        &["app!"],
        &["1 stop", "2 up app", "3 exit app 143", "3 clean"],
        "
            start app
        1 stop
        2 up app
            Stop app
            until 32
        3 exit app 143
            finished
        3 clean
        Stopped/Stopped started - stopping 1 executionStopped 3 stopped 3
        UserInitiated: Task stopped by user
        app Stopped 143
        ",
    );
}

#[test]
fn an_unknown_dependency_is_hopeless_at_once() {
    check(
        &["app! <ghost:START"],
        &["1 clean"],
        "
            finished
        1 clean
        Stopped/Stopped started - stopping 0 executionStopped - stopped 1
        TaskFailedToStart: TaskDependencyError: container [app] depends on [ghost], which the task does not have
        app Stopped -
        ",
    );
}

#[test]
fn a_reason_is_cut_at_amazons_length() {
    let rules = [player::rules("app!")];
    let mut run = TaskRun::new(&rules, Timestamp::from_epoch_ms(0));
    let reason = "é".repeat(2000);
    run.on(Event::StopRequested { code: StopCode::UserInitiated, reason }, Timestamp::from_epoch_ms(1));
    assert_eq!(run.progress().stopped_reason, Some("é".repeat(1024)));
}

#[test]
fn a_circle_stops_at_once() {
    check(
        &["db! <app:START", "app <side:START", "side <db:START", "tail <side:START", "free"],
        &["1 clean"],
        "
            finished
        1 clean
        Stopped/Stopped started - stopping 0 executionStopped - stopped 1
        TaskFailedToStart: TaskDependencyError: Task dependencies cannot be resolved, containers: db, app, side, tail
        db Stopped -
        app Stopped -
        side Stopped -
        tail Stopped -
        free Stopped -
        ",
    );
}

#[test]
fn a_kill_aborts_a_start() {
    check(
        &["app!", "side"],
        &["1 up side", "2 kill", "3 exit side 137", "3 broken app CannotStartContainerError: aborted", "4 clean"],
        "
            start app
            start side
        1 up side
        2 kill
            Kill app
            Kill side
        3 exit side 137
        3 broken app CannotStartContainerError: aborted
            finished
        4 clean
        Stopped/Stopped started - stopping 2 executionStopped 3 stopped 4
        UserInitiated: Task stopped by user
        app Stopped - CannotStartContainerError: aborted
        side Stopped 137
        ",
    );
}

#[test]
fn a_start_that_was_aborted_too_late_is_killed_again() {
    check(
        &["app!"],
        &["1 kill", "2 up app", "3 exit app 137", "4 clean"],
        "
            start app
        1 kill
            Kill app
        2 up app
            Kill app
        3 exit app 137
            finished
        4 clean
        Stopped/Stopped started - stopping 1 executionStopped 3 stopped 4
        UserInitiated: Task stopped by user
        app Stopped 137
        ",
    );
}

#[test]
fn errors_that_amazon_tells_of_the_task_are_its_reason() {
    check(
        &["app!"],
        &["1 broken app ResourceInitializationError: unable to pull secrets", "2 clean"],
        "
            start app
        1 broken app ResourceInitializationError: unable to pull secrets
            finished
        2 clean
        Stopped/Stopped started - stopping 1 executionStopped 1 stopped 2
        TaskFailedToStart by app: ResourceInitializationError: unable to pull secrets
        app Stopped - ResourceInitializationError: unable to pull secrets
        ",
    );
}

/// As the agent's `initializeContainerOrdering` has it, and `collectFirelensLogOptions` for the router.
#[test]
fn links_volumes_and_the_log_router_are_waited_for() {
    let definitions: Vec<ContainerDefinition> = serde_json::from_str(
        r#"[
            {"name": "router", "image": "i", "firelensConfiguration": {"type": "fluentbit"}},
            {"name": "files", "image": "i", "restartPolicy": {"enabled": false}},
            {"name": "db", "image": "i", "healthCheck": {"command": ["CMD-SHELL", "true"]}, "stopTimeout": 7,
             "restartPolicy": {"enabled": true, "ignoredExitCodes": [0]}},
            {"name": "app", "image": "i", "links": ["db:database", "files"], "volumesFrom": [{"sourceContainer": "files"}],
             "dependsOn": [{"containerName": "db", "condition": "HEALTHY"}], "startTimeout": 9,
             "logConfiguration": {"logDriver": "awsfirelens"}, "essential": false,
             "healthCheck": {"command": ["NONE"]}}
        ]"#,
    )
    .expect("definitions");
    let rules = ContainerRules::of_task(&definitions.iter().collect::<Vec<_>>());
    assert_eq!(rules[1], player::rules("files!"));
    assert_eq!(rules[2], player::rules("db! stop=7 health=30,5,3,0 restart=300,0"));
    assert_eq!(rules[3], player::rules("app <db:HEALTHY <files:START <router:START start=9"));
}
