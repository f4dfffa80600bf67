//! Drawing the progress of pulls and imports on standard error: a bar for each layer on a terminal, else a line for
//! each layer that is done.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use images::{Digest, Progress, Silent};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// Drawn at most so often a second.
const REDRAWS: u8 = 15;
/// As many digits of a digest as tell layers apart.
const SHORT_DIGEST: usize = 12;

/// What this terminal, pipe or program wants to see.
pub(crate) fn for_standard_error(json: bool) -> Arc<dyn Progress> {
    if json {
        Arc::new(Silent)
    } else if std::io::stderr().is_terminal() {
        Arc::new(Bars::new())
    } else {
        Arc::new(Lines)
    }
}

fn short(layer: &Digest) -> String {
    layer.hex().chars().take(SHORT_DIGEST).collect()
}

struct Lines;

impl Progress for Lines {
    fn layer(&self, layer: &Digest, size: u64) {
        eprintln!("{}  {}", short(layer), output::bytes(size));
    }

    fn present(&self, layer: &Digest) {
        eprintln!("{}  is here already", short(layer));
    }

    fn unpacked(&self, layer: &Digest) {
        eprintln!("{}  done", short(layer));
    }
}

struct Bars {
    screen: MultiProgress,
    bars: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    fn new() -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS));
        Self { screen, bars: Mutex::default() }
    }

    fn bars(&self) -> MutexGuard<'_, HashMap<Digest, ProgressBar>> {
        // A drawing that panicked leaves bars that are wrong at worst.
        self.bars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, layer: &Digest, change: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = self.bars().get(layer) {
            change(bar);
        }
    }
}

impl Progress for Bars {
    fn layer(&self, layer: &Digest, size: u64) {
        let style =
            ProgressStyle::with_template("{prefix}  {bar:30}  {decimal_bytes:>10} of {decimal_total_bytes:<10} {msg}");
        let style = style.expect("the template is right").progress_chars("█▉▊▋▌▍▎▏ ");
        let bar = self.screen.add(ProgressBar::new(size).with_style(style).with_prefix(short(layer)));
        self.bars().insert(*layer, bar);
    }

    fn present(&self, layer: &Digest) {
        let style = ProgressStyle::with_template("{prefix}  {msg}").expect("the template is right");
        let bar = self.screen.add(ProgressBar::new(0).with_style(style).with_prefix(short(layer)));
        bar.finish_with_message("is here already");
        self.bars().insert(*layer, bar);
    }

    fn bytes(&self, layer: &Digest, count: u64) {
        self.with(layer, |bar| bar.inc(count));
    }

    fn restarted(&self, layer: &Digest) {
        self.with(layer, |bar| bar.set_position(0));
    }

    fn unpacked(&self, layer: &Digest) {
        self.with(layer, |bar| {
            bar.set_position(bar.length().unwrap_or_default());
            bar.finish_with_message("done");
        });
    }
}
