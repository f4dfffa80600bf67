//! Every state against every step, as a table to read: `matrix.txt` was written from the drawing in `state.rs`.

use task_lifecycle::state::{ContainerState, ContainerStep, TaskState, TaskStep};

#[test]
fn every_state_against_every_step() {
    let containers = table(11, &ContainerState::ALL, &ContainerStep::ALL, |state, step| state.next(step));
    let tasks = table(12, &TaskState::ALL, &TaskStep::ALL, |state, step| state.next(step));
    assert_eq!(format!("container\n{containers}\ntask\n{tasks}"), include_str!("matrix.txt"));
}

fn table<State, Step>(width: usize, states: &[State], steps: &[Step], next: fn(State, Step) -> Option<State>) -> String
where
    State: Copy + std::fmt::Debug,
    Step: Copy + std::fmt::Debug,
{
    let mut out = String::new();
    let mut row = |cells: Vec<String>| {
        let line: String = cells.iter().map(|cell| format!("{:width$}", shorten(cell, width - 1))).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    };
    row([String::new()].into_iter().chain(steps.iter().map(|step| format!("{step:?}"))).collect());
    for state in states {
        let cells = steps.iter().map(|step| next(*state, *step).map_or(".".to_owned(), |next| format!("{next:?}")));
        row([format!("{state:?}")].into_iter().chain(cells).collect());
    }
    out
}

fn shorten(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width - 1).chain(['…']).collect()
}
