//! Health checks as scripts: when they run, what their results make of a container, of its task and of whoever waits.
//! Expected: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_HealthCheck.html>.

mod player;

use player::check;

#[test]
fn the_first_check_comes_an_interval_after_the_start_and_the_next_after_the_previous_ones_end() {
    check(
        &["app! health=10,5,3,0"],
        &["1 up app", "10 tick", "11 tick", "14 checked app 0", "23 tick", "24 tick", "25 checked app 0"],
        "
            start app
        1 up app
            until 11
        10 tick
            until 11
        11 tick
            check app
            until 16
        14 checked app 0
            Healthy: app Healthy
            until 24
        23 tick
            until 24
        24 tick
            check app
            until 29
        25 checked app 0
            until 35
        Running/Running started 1 stopping - executionStopped - stopped -
        app Running -
        ",
    );
}

#[test]
fn so_many_failures_in_a_row_are_unhealthy_one_success_is_healthy_and_nobody_is_stopped() {
    check(
        &["app! health=10,5,2,0"],
        &[
            "0 up app",
            "10 tick",
            "10 checked app 1",
            "20 tick",
            "20 checked app 0",
            "30 tick",
            "30 checked app 1",
            "40 tick",
            "40 unchecked app",
            "50 tick",
            "50 checked app 0",
        ],
        "
            start app
        0 up app
            until 10
        10 tick
            check app
            until 15
        10 checked app 1
            until 20
        20 tick
            check app
            until 25
        20 checked app 0
            Healthy: app Healthy
            until 30
        30 tick
            check app
            until 35
        30 checked app 1
            until 40
        40 tick
            check app
            until 45
        40 unchecked app
            Unhealthy: app Unhealthy
            until 50
        50 tick
            check app
            until 55
        50 checked app 0
            Healthy: app Healthy
            until 60
        Running/Running started 0 stopping - executionStopped - stopped -
        app Running -
        ",
    );
}

#[test]
fn a_check_that_takes_too_long_is_abandoned_has_failed_and_says_nothing_any_more() {
    check(
        &["app! health=10,5,1,0"],
        &["0 up app", "10 tick", "14 tick", "15 tick", "16 checked app 0", "25 tick", "25 checked app 0"],
        "
            start app
        0 up app
            until 10
        10 tick
            check app
            until 15
        14 tick
            until 15
        15 tick
            abandon check of app
            Unhealthy: app Unhealthy
            until 25
        16 checked app 0
            until 25
        25 tick
            check app
            until 30
        25 checked app 0
            Healthy: app Healthy
            until 35
        Running/Running started 0 stopping - executionStopped - stopped -
        app Running -
        ",
    );
}

#[test]
fn failures_of_checks_that_begin_in_the_start_period_do_not_count() {
    check(
        &["app! health=10,5,1,25"],
        &["0 up app", "10 tick", "10 checked app 1", "20 tick", "26 tick", "36 tick", "36 checked app 1"],
        "
            start app
        0 up app
            until 10
        10 tick
            check app
            until 15
        10 checked app 1
            until 20
        20 tick
            check app
            until 25
        26 tick
            abandon check of app
            until 36
        36 tick
            check app
            until 41
        36 checked app 1
            Unhealthy: app Unhealthy
            until 46
        Running/Running started 0 stopping - executionStopped - stopped -
        app Running -
        ",
    );
}

#[test]
fn a_success_ends_the_start_period() {
    check(
        &["app! health=10,5,1,300"],
        &["0 up app", "10 tick", "10 checked app 0", "20 tick", "20 checked app 1"],
        "
            start app
        0 up app
            until 10
        10 tick
            check app
            until 15
        10 checked app 0
            Healthy: app Healthy
            until 20
        20 tick
            check app
            until 25
        20 checked app 1
            Unhealthy: app Unhealthy
            until 30
        Running/Running started 0 stopping - executionStopped - stopped -
        app Running -
        ",
    );
}

#[test]
fn late_and_foreign_results_change_nothing() {
    check(
        &["app! health=10,5,1,0", "side"],
        &["0 checked app 0", "0 up app", "1 checked app 0", "1 checked side 0", "1 checked ghost 0", "2 up side"],
        "
            start app
            start side
        0 checked app 0
        0 up app
            until 10
        1 checked app 0
            until 10
        1 checked side 0
            until 10
        1 checked ghost 0
            until 10
        2 up side
            until 10
        Running/Running started 2 stopping - executionStopped - stopped -
        app Running -
        side Running -
        ",
    );
}

#[test]
fn the_tasks_health_is_that_of_its_essential_containers_with_a_check() {
    check(
        &["web! health=10,5,1,0", "db! health=10,5,1,0", "side health=10,5,1,0", "bare!"],
        &[
            "0 up web",
            "0 up db",
            "0 up side",
            "0 up bare",
            "10 tick",
            "10 checked side 1",
            "10 checked web 0",
            "10 checked db 0",
            "20 tick",
            "20 checked db 1",
        ],
        "
            start web
            start db
            start side
            start bare
        0 up web
            until 10
        0 up db
            until 10
        0 up side
            until 10
        0 up bare
            until 10
        10 tick
            check web
            check db
            check side
            until 15
        10 checked side 1
            Unknown: web Unknown db Unknown side Unhealthy bare Unknown
            until 15
        10 checked web 0
            Unknown: web Healthy db Unknown side Unhealthy bare Unknown
            until 15
        10 checked db 0
            Healthy: web Healthy db Healthy side Unhealthy bare Unknown
            until 20
        20 tick
            check web
            check db
            check side
            until 25
        20 checked db 1
            Unhealthy: web Healthy db Unhealthy side Unhealthy bare Unknown
            until 25
        Running/Running started 0 stopping - executionStopped - stopped -
        web Running -
        db Running -
        side Running -
        bare Running -
        ",
    );
}

#[test]
fn a_healthy_dependency_is_waited_for_also_while_it_is_unhealthy() {
    check(
        &["db! health=10,5,1,0", "app! <db:HEALTHY"],
        &["1 up db", "11 tick", "12 checked db 1", "22 tick", "23 checked db 0", "24 up app"],
        "
            start db
        1 up db
            until 11
        11 tick
            check db
            until 16
        12 checked db 1
            Unhealthy: db Unhealthy app Unknown
            until 22
        22 tick
            check db
            until 27
        23 checked db 0
            start app
            Healthy: db Healthy app Unknown
            until 33
        24 up app
            until 33
        Running/Running started 24 stopping - executionStopped - stopped -
        db Running -
        app Running -
        ",
    );
}

#[test]
fn a_dependency_that_is_not_healthy_in_its_start_timeout_stops_the_task() {
    check(
        &["db! health=10,5,3,0 start=15", "app! <db:HEALTHY"],
        &["1 up db", "11 tick", "12 checked db 1", "16 tick", "17 exit db 143", "18 clean"],
        "
            start db
        1 up db
            until 11
        11 tick
            check db
            until 16
        12 checked db 1
            until 16
        16 tick
            Stop db
            until 46
        17 exit db 143
            finished
        18 clean
        Stopped/Stopped started - stopping 16 executionStopped 17 stopped 18
        TaskFailedToStart: TaskDependencyError: failed to resolve container ordering dependency [db] for target [app] has timed out
        db Stopped 143
        app Stopped -
        ",
    );
}

#[test]
fn a_dependency_that_ends_before_it_is_healthy_stops_the_task() {
    check(
        &["db health=10,5,3,0", "app! <db:HEALTHY"],
        &["1 up db", "11 tick", "12 exit db 0", "13 clean"],
        "
            start db
        1 up db
            until 11
        11 tick
            check db
            until 16
        12 exit db 0
            abandon check of db
            finished
        13 clean
        Stopped/Stopped started - stopping 12 executionStopped - stopped 13
        TaskFailedToStart: TaskDependencyError: failed to resolve container ordering dependency [db] for target [app] as dependency stopped before it was healthy
        db Stopped 0
        app Stopped -
        ",
    );
}

#[test]
fn a_dependency_without_a_check_is_never_healthy() {
    check(
        &["db!", "app! <db:HEALTHY"],
        &["1 clean"],
        "
            finished
        1 clean
        Stopped/Stopped started - stopping 0 executionStopped - stopped 1
        TaskFailedToStart: TaskDependencyError: failed to resolve container ordering dependency [db] for target [app] as dependency has no health check
        db Stopped -
        app Stopped -
        ",
    );
}

#[test]
fn checks_end_with_the_stop_and_the_last_known_health_stays() {
    check(
        &["app! health=10,5,1,0", "side health=3,9,1,0"],
        &["0 up app", "0 up side", "10 tick", "10 checked app 0", "11 stop", "12 checked side 0", "40 tick"],
        "
            start app
            start side
        0 up app
            until 10
        0 up side
            until 3
        10 tick
            check app
            check side
            until 15
        10 checked app 0
            Healthy: app Healthy side Unknown
            until 19
        11 stop
            abandon check of side
            Stop app
            Stop side
            until 41
        12 checked side 0
            until 41
        40 tick
            until 41
        Stopping/Stopped started 0 stopping 11 executionStopped - stopped -
        UserInitiated: Task stopped by user
        app Running -
        side Running -
        ",
    );
}

#[test]
fn a_dependency_that_turns_unhealthy_after_its_start_timeout_is_hopeless_at_once() {
    check(
        &["db! health=10,5,1,0 start=15", "job", "app! <db:HEALTHY <job:COMPLETE"],
        &["0 up db", "0 up job", "10 tick", "10 checked db 0", "20 tick", "25 tick"],
        "
            start db
            start job
        0 up db
            until 10
        0 up job
            until 10
        10 tick
            check db
            until 15
        10 checked db 0
            Healthy: db Healthy job Unknown app Unknown
            until 20
        20 tick
            check db
            until 25
        25 tick
            abandon check of db
            Stop db
            Stop job
            Unhealthy: db Unhealthy job Unknown app Unknown
            until 55
        Stopping/Stopped started - stopping 25 executionStopped - stopped -
        TaskFailedToStart: TaskDependencyError: failed to resolve container ordering dependency [db] for target [app] has timed out
        db Running -
        job Running -
        app Stopped -
        ",
    );
}
