//! Restart policies as scripts. Expected:
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/container-restart-policy.html>.

mod player;

use player::check;

#[test]
fn an_essential_container_that_ran_long_enough_is_started_again_and_the_task_goes_on() {
    check(
        &["app! restart=60", "side <app:START"],
        &["1 up app", "2 up side", "61 exit app 1", "63 up app", "121 exit app 1", "122 up app"],
        "
            start app
        1 up app
            start side
        2 up side
        61 exit app 1
            start app
        63 up app
        121 exit app 1
            start app
        122 up app
        Running/Running started 2 stopping - executionStopped - stopped -
        app Running - restarted 2
        side Running -
        ",
    );
}

#[test]
fn the_attempt_period_counts_from_the_last_restart_and_a_shorter_life_is_an_end() {
    check(
        &["app! restart=60"],
        &["1 up app", "61 exit app 1", "63 up app", "120 exit app 2", "121 clean"],
        "
            start app
        1 up app
        61 exit app 1
            start app
        63 up app
        120 exit app 2
            finished
        121 clean
        Stopped/Stopped started 1 stopping 120 executionStopped 120 stopped 121
        EssentialContainerExited by app: Essential container in task exited
        app Stopped 2 restarted 1
        ",
    );
}

#[test]
fn an_ignored_exit_code_is_an_end() {
    check(
        &["app! restart=60,0,3"],
        &["0 up app", "100 exit app 3", "101 clean"],
        "
            start app
        0 up app
        100 exit app 3
            finished
        101 clean
        Stopped/Stopped started 0 stopping 100 executionStopped 100 stopped 101
        EssentialContainerExited by app: Essential container in task exited
        app Stopped 3
        ",
    );
}

#[test]
fn an_exit_of_a_task_that_stops_is_an_end() {
    check(
        &["app! restart=60"],
        &["0 up app", "100 stop", "101 exit app 143", "102 clean"],
        "
            start app
        0 up app
        100 stop
            Stop app
            until 130
        101 exit app 143
            finished
        102 clean
        Stopped/Stopped started 0 stopping 100 executionStopped 101 stopped 102
        UserInitiated: Task stopped by user
        app Stopped 143
        ",
    );
}

#[test]
fn a_restart_that_fails_is_an_end_with_the_exit_code_of_the_run_before() {
    check(
        &["app! restart=60"],
        &["0 up app", "100 exit app 7", "101 broken app CannotStartContainerError: no memory", "102 clean"],
        "
            start app
        0 up app
        100 exit app 7
            start app
        101 broken app CannotStartContainerError: no memory
            finished
        102 clean
        Stopped/Stopped started 0 stopping 101 executionStopped 101 stopped 102
        EssentialContainerExited by app: Essential container in task exited
        app Stopped 7 restarted 1 CannotStartContainerError: no memory
        ",
    );
}

#[test]
fn a_stop_while_it_is_started_again_waits_for_the_start_and_a_kill_does_not() {
    check(
        &["app! restart=60", "side restart=60"],
        &[
            "0 up app",
            "0 up side",
            "100 exit app 7",
            "100 exit side 8",
            "101 stop",
            "102 up side",
            "103 kill",
            "104 exit side 137",
            "104 broken app CannotStartContainerError: aborted",
            "105 clean",
        ],
        "
            start app
            start side
        0 up app
        0 up side
        100 exit app 7
            start app
        100 exit side 8
            start side
        101 stop
        102 up side
            Stop side
            until 132
        103 kill
            Kill app
            Kill side
        104 exit side 137
        104 broken app CannotStartContainerError: aborted
            finished
        105 clean
        Stopped/Stopped started 0 stopping 101 executionStopped 104 stopped 105
        UserInitiated: Task stopped by user
        app Stopped 7 restarted 1 CannotStartContainerError: aborted
        side Stopped 137 restarted 1
        ",
    );
}

#[test]
fn complete_waits_for_the_last_end_and_the_start_timeout_for_nobody() {
    check(
        &["job restart=60,0 start=300", "app! <job:COMPLETE"],
        &["0 up job", "100 exit job 1", "101 up job", "200 exit job 0", "201 up app"],
        "
            start job
        0 up job
            until 300
        100 exit job 1
            start job
            until 300
        101 up job
            until 300
        200 exit job 0
            start app
        201 up app
        Running/Running started 201 stopping - executionStopped - stopped -
        job Stopped 0 restarted 1
        app Running -
        ",
    );
}

#[test]
fn health_starts_anew_after_a_restart() {
    check(
        &["app! restart=60 health=50,20,1,60"],
        &[
            "0 up app",
            "50 tick",
            "50 checked app 0",
            "100 tick",
            "101 exit app 1",
            "105 up app",
            "155 tick",
            "156 checked app 1",
        ],
        "
            start app
        0 up app
            until 50
        50 tick
            check app
            until 70
        50 checked app 0
            Healthy: app Healthy
            until 100
        100 tick
            check app
            until 120
        101 exit app 1
            abandon check of app
            start app
            Unknown: app Unknown
        105 up app
            until 155
        155 tick
            check app
            until 175
        156 checked app 1
            until 206
        Running/Running started 0 stopping - executionStopped - stopped -
        app Running - restarted 1
        ",
    );
}

#[test]
fn out_of_memory_is_started_again_like_any_exit() {
    check(
        &["app! restart=60"],
        &["0 up app", "60 oom app", "61 up app"],
        "
            start app
        0 up app
        60 oom app
            start app
        61 up app
        Running/Running started 0 stopping - executionStopped - stopped -
        app Running - restarted 1
        ",
    );
}
