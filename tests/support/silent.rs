//! A file system that does not answer: over FUSE, with a root that is there and nothing below it that ever is. Whoever
//! asks for a name in it sleeps uninterruptibly, as on a network disk whose server is gone.
//!
//! The protocol is the kernel's `include/uapi/linux/fuse.h`.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::wait_for;

const HEADER_BYTES: usize = 40;
const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const INIT: u32 = 26;
const PARALLEL_DIROPS: u32 = 1 << 18;
/// More than the kernel's FUSE_MIN_READ_BUFFER and one write.
const BUFFER_BYTES: usize = 256 << 10;

pub(crate) struct Silent {
    directory: PathBuf,
    /// Names that were asked for.
    questions: Arc<AtomicUsize>,
}

impl Silent {
    /// Nothing on a kernel without FUSE.
    pub(crate) fn mount(directory: &Path) -> Option<Silent> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        std::fs::create_dir_all(directory).expect("a test may write to its own directory");
        let target = CString::new(directory.as_os_str().as_bytes()).expect("no zero byte");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let options = CString::new(options).expect("no zero byte");
        // SAFETY: C strings that outlive the call.
        let mounted =
            unsafe { libc::mount(c"silent".as_ptr(), target.as_ptr(), c"fuse".as_ptr(), 0, options.as_ptr().cast()) };
        assert_eq!(mounted, 0, "a FUSE mount: {}", std::io::Error::last_os_error());
        let questions = Arc::new(AtomicUsize::new(0));
        let counted = questions.clone();
        std::thread::spawn(move || serve(device, &counted));
        Some(Silent { directory: directory.to_owned(), questions })
    }

    /// Until so many have asked, who now sleep.
    #[track_caller]
    pub(crate) fn wait_for_questions(&self, count: usize) {
        wait_for("a question to the silent file system", || {
            (self.questions.load(Ordering::SeqCst) >= count).then_some(())
        });
    }
}

impl Drop for Silent {
    /// Wakes everybody who waits for it, with an error.
    fn drop(&mut self) {
        let target = CString::new(self.directory.as_os_str().as_bytes()).expect("no zero byte");
        // SAFETY: a C string that outlives the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_FORCE | libc::MNT_DETACH) };
    }
}

/// Until the file system is given up. What is not answered here never is.
fn serve(mut device: File, questions: &AtomicUsize) {
    let mut request = vec![0; BUFFER_BYTES];
    while let Ok(count) = device.read(&mut request) {
        if count < HEADER_BYTES {
            return;
        }
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"));
        let answer = match word(4) {
            INIT => {
                // Our versions are the kernel's own; everything else is zero, but for the largest write.
                // Several may ask about one directory at a time.
                let mut body = vec![0_u8; 64];
                body[..8].copy_from_slice(&request[HEADER_BYTES..HEADER_BYTES + 8]);
                body[12..16].copy_from_slice(&PARALLEL_DIROPS.to_ne_bytes());
                body[20..24].copy_from_slice(&4096_u32.to_ne_bytes());
                body
            }
            GETATTR => root_attributes(),
            LOOKUP => {
                questions.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            _ => continue,
        };
        let length = u32::try_from(16 + answer.len()).expect("a small answer");
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(0_i32.to_ne_bytes());
        message.extend(&request[8..16]);
        message.extend(answer);
        if device.write_all(&message).is_err() {
            return;
        }
    }
}

/// A directory of root's, for a thousand seconds.
fn root_attributes() -> Vec<u8> {
    let mut body = vec![0_u8; 104];
    body[..8].copy_from_slice(&1000_u64.to_ne_bytes());
    body[16..24].copy_from_slice(&1_u64.to_ne_bytes());
    body[76..80].copy_from_slice(&(libc::S_IFDIR | 0o755).to_ne_bytes());
    body[80..84].copy_from_slice(&2_u32.to_ne_bytes());
    body
}
