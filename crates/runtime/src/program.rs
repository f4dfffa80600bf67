//! Looking a program up as a shell would, and becoming it.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;

/// A program with its words and its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// At least one.
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    /// Where to look for a program without a slash, as `PATH` has it.
    pub path: String,
}

/// Why a program did not start, in the words of runc that ECS users know.
#[derive(Debug, thiserror::Error)]
#[error("exec: \"{program}\": {why}")]
pub(crate) struct NotExecuted {
    pub(crate) program: String,
    pub(crate) why: String,
    /// What a shell would answer, as Docker does: 127 when there is no such program, 126 when it cannot be executed.
    pub(crate) exit_code: i32,
}

impl Program {
    /// # Errors
    /// Only comes back when there is no such program, or it cannot be executed.
    pub(crate) fn execute(&self) -> Result<Infallible, NotExecuted> {
        let program = self.arguments[0].to_string_lossy().into_owned();
        let arguments = pointers(&self.arguments);
        let environment = pointers(&self.environment);
        let mut denied = false;
        for candidate in self.candidates() {
            // SAFETY: both arrays end in a null pointer, and everything in them outlives the call.
            unsafe { libc::execve(candidate.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
            match io::Error::last_os_error() {
                error if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                    if program.contains('/') {
                        // A missing interpreter gives the same errno as a missing file.
                        let why = format!("stat {program}: no such file or directory");
                        return Err(NotExecuted { why, program, exit_code: 127 });
                    }
                }
                error if error.raw_os_error() == Some(libc::EACCES) => denied = true,
                error => return Err(NotExecuted { program, why: describe(&error), exit_code: 126 }),
            }
        }
        let (why, exit_code) = match denied {
            true => ("permission denied", 126),
            false => ("executable file not found in $PATH", 127),
        };
        Err(NotExecuted { program, why: why.to_owned(), exit_code })
    }

    fn candidates(&self) -> Vec<CString> {
        let program = &self.arguments[0];
        if program.as_bytes().contains(&b'/') {
            return vec![program.clone()];
        }
        if program.is_empty() {
            return Vec::new();
        }
        let join = |directory: &str| {
            let directory = if directory.is_empty() { "." } else { directory };
            let mut path = directory.as_bytes().to_vec();
            path.push(b'/');
            path.extend_from_slice(program.as_bytes());
            CString::new(path).ok()
        };
        self.path.split(':').filter_map(join).collect()
    }
}

/// Null-terminated, and valid as long as `words`.
pub(crate) fn pointers(words: &[CString]) -> Vec<*const libc::c_char> {
    words.iter().map(|word| word.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => "exec format error".to_owned(),
        Some(libc::EISDIR) => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}
