//! Reading a whole file that a person wrote, up to a size that no person writes.

use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::pipes;

/// The content of a file of at most `max_bytes`.
///
/// # Errors
/// When the file cannot be read, is larger, or is a pipe.
pub(crate) fn read_at_most(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    // One byte more tells a file that is too large from one that just fits.
    let bytes = pipes::open_to_read(path)?
        .take(max_bytes + 1)
        .read_to_end(&mut content)?;
    if bytes as u64 > max_bytes {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_itself_fits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(read_at_most(&path, 4).unwrap(), b"1234");
        let error = read_at_most(&path, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert!(read_at_most(Path::new("/dev/zero"), 1000).is_err());
    }
}
