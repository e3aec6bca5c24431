//! What it may mean when the system refuses an `io_uring` operation, for the person who has to do something about it.

use std::io;

/// For `map_err`: says what was tried, what the system answered, and what that usually means.
pub(super) fn refused(action: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| {
        let meaning = meaning(&error);
        io::Error::new(error.kind(), format!("cannot {action}: {error}{meaning}"))
    }
}

fn meaning(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => "; this kernel has no io_uring",
        Some(libc::EPERM | libc::EACCES) => {
            "; it is forbidden here: by a seccomp filter, as containers set by default, or by kernel.io_uring_disabled"
        }
        Some(libc::EINVAL | libc::EOPNOTSUPP) => {
            "; this kernel is too old: Linux 6.1 or newer is needed"
        }
        Some(libc::ENOMEM) => "; not enough memory may be locked: raise RLIMIT_MEMLOCK",
        Some(libc::EMFILE | libc::ENFILE) => "; too many files are open: raise RLIMIT_NOFILE",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_was_tried_and_why_it_failed() {
        let error = refused("set up a ring")(io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let text = error.to_string();
        assert!(text.starts_with("cannot set up a ring: "), "{text}");
        assert!(text.contains("seccomp"), "{text}");
    }
}
