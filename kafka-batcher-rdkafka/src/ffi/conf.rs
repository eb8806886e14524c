//! Settings of a client.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;

use rdkafka::bindings as rd;

use super::text::Text;

/// Why a property was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// There is no such property.
    Name,
    /// The property can't have this value.
    Value,
}

/// Settings of a client that is to be made.
pub(crate) struct Conf(pub(super) NonNull<rd::rd_kafka_conf_t>);

// SAFETY: a plain C structure without thread affinity, owned by this value alone.
unsafe impl Send for Conf {}

impl Conf {
    /// librdkafka's defaults; `None` when out of memory.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: no preconditions.
        NonNull::new(unsafe { rd::rd_kafka_conf_new() }).map(Self)
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), Unfit> {
        let name = CString::new(name).map_err(|_| Unfit::Name)?;
        let value = CString::new(value).map_err(|_| Unfit::Value)?;
        let mut text = Text::new();
        // SAFETY: all pointers are valid for the call, which copies what it keeps; the size is the buffer's.
        let result = unsafe {
            rd::rd_kafka_conf_set(self.0.as_ptr(), name.as_ptr(), value.as_ptr(), text.ptr(), text.0.len())
        };
        match result {
            rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_UNKNOWN => Err(Unfit::Name),
            _ => Err(Unfit::Value),
        }
    }

    pub(crate) fn get(&self, name: &CStr) -> Option<String> {
        let mut text = Text::new();
        let mut size = text.0.len();
        // SAFETY: all pointers are valid for the call; it writes at most `size` bytes, the NUL included.
        let result =
            unsafe { rd::rd_kafka_conf_get(self.0.as_ptr(), name.as_ptr(), text.ptr(), &raw mut size) };
        (result == rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK).then(|| text.read())
    }

    /// Has librdkafka log what is wrong with a broker's certificate; its error for all that can be is the same.
    pub(super) fn explain_certificates(&mut self) {
        // SAFETY: `conf` is valid, and the function lives as long as the program.
        let _fails_without_tls =
            unsafe { rd::rd_kafka_conf_set_ssl_cert_verify_cb(self.0.as_ptr(), Some(explain_certificate)) };
    }
}

/// What the log line that [`Conf::explain_certificates`] asks for ends with, and after it the number.
pub(crate) const X509_ERROR: &str = "verification callback failed: X.509 error ";

/// Decides as OpenSSL has, and names its reason. Called for each certificate of a broker's chain.
///
/// # Safety
/// `error` points to OpenSSL's verdict so far, 0 for good; `text` has room for `size` bytes.
unsafe extern "C" fn explain_certificate(
    _client: *mut rd::rd_kafka_t,
    _broker: *const c_char,
    _broker_id: i32,
    error: *mut c_int,
    _depth: c_int,
    _certificate: *const c_char,
    _length: usize,
    text: *mut c_char,
    size: usize,
    _opaque: *mut c_void,
) -> c_int {
    // SAFETY: points to an int, as the caller promises.
    let error = unsafe { *error };
    if error == 0 {
        return 1;
    }
    let reason = format!("X.509 error {error}\0");
    if reason.len() <= size {
        // SAFETY: the text, with its NUL, is not longer than the room for it.
        unsafe { std::ptr::copy_nonoverlapping(reason.as_ptr().cast(), text, reason.len()) };
    }
    0
}

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: owned and not given away: giving it to a client forgets `self`.
        unsafe { rd::rd_kafka_conf_destroy(self.0.as_ptr()) }
    }
}
