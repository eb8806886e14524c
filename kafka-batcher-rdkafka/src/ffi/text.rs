//! Texts and numbers on their way from and to C.

use std::ffi::{CStr, c_char, c_int};
use std::time::Duration;

use super::raw;
use crate::code::Code;

/// A buffer librdkafka writes an error text into.
pub(super) struct Text(pub(super) [c_char; 512]);

impl Text {
    pub(super) const fn new() -> Self {
        Self([0; 512])
    }

    pub(super) fn ptr(&mut self) -> *mut c_char {
        self.0.as_mut_ptr()
    }

    pub(super) fn read(&self) -> String {
        // SAFETY: librdkafka ends what it writes with a NUL inside the size given; untouched it is all NUL.
        unsafe { owned(self.0.as_ptr()) }
    }
}

/// Copies a C string; null gives an empty one.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string.
pub(super) unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and NUL-terminated as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

pub(super) fn millis(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

/// What librdkafka says an error code means.
pub(crate) fn describe(code: Code) -> String {
    // SAFETY: takes any number, and returns a static string or one in thread-local storage.
    unsafe { owned(raw::rd_kafka_err2str(code.0)) }
}
