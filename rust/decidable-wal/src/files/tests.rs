use std::{os::unix::fs::symlink, process};

use super::*;

/// A directory that is removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("decidable-wal-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn create() -> OpenOptions {
    let mut options = file_options();
    options.read(true).write(true).create(true).truncate(true);
    options
}

#[test]
fn a_link_that_appears_after_the_look_is_not_followed() {
    let scratch = Scratch::new("late");
    let (link, outside) = (scratch.0.join("link"), scratch.0.join("outside"));
    fs::write(&outside, "whole").unwrap();
    symlink(&outside, &link).unwrap();
    let mut read = file_options();
    read.read(true);
    let looked = refuse_irregular(&link).unwrap_err();
    for options in [create(), read] {
        let opened = open_checked(&options, &link).unwrap_err();
        assert_eq!((opened.kind(), opened.to_string()), (looked.kind(), looked.to_string()));
    }
    assert_eq!(fs::read(&outside).unwrap(), b"whole");
}

#[test]
fn nothing_is_made_behind_a_dangling_link() {
    let scratch = Scratch::new("dangling");
    let (link, outside) = (scratch.0.join("link"), scratch.0.join("outside"));
    symlink(&outside, &link).unwrap();
    let error = open_checked(&create(), &link).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    assert!(!outside.exists());
    let error = Files::new(&scratch.0).lock("link", "").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    assert!(!outside.exists());
}

#[test]
fn what_was_opened_is_looked_at_again() {
    let mut options = file_options();
    options.read(true);
    let error = open_checked(&options, Path::new("/dev/null")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
}
