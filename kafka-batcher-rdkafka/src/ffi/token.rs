//! Tokens of SASL/OAUTHBEARER.

use std::ffi::CString;
use std::ptr;

use kafka_batcher_core::config::Token;
use rdkafka::bindings as rd;
use secrecy::ExposeSecret;

use super::client::Client;
use super::raw;
use super::text::Text;
use crate::code::Code;

impl Client {
    /// Gives librdkafka the token it asked for. It keeps a copy.
    pub(crate) fn set_token(&self, token: &Token) -> Result<(), &'static str> {
        // librdkafka would put a token it can't send into its error text.
        if !token
            .value
            .expose_secret()
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'))
        {
            return Err("the token has characters other than those of a bearer token");
        }
        let value = CString::new(token.value.expose_secret()).map_err(|_| "the token contains NUL")?;
        let principal = CString::new(&*token.principal).map_err(|_| "the token's principal contains NUL")?;
        let mut text = Text::new();
        // SAFETY: `rk` is valid, the strings live for the call, there are no extensions, the size is the buffer's.
        let code = Code(unsafe {
            raw::rd_kafka_oauthbearer_set_token(
                self.rk.as_ptr(),
                value.as_ptr(),
                // It counts in microseconds.
                token.expires_at.clamp(0, i64::MAX / 1_000_000),
                principal.as_ptr(),
                ptr::null_mut(),
                0,
                text.ptr(),
                text.0.len(),
            )
        });
        match code {
            Code::NONE => Ok(()),
            Code::INVALID_ARG => Err("the token has expired"),
            _ => Err("librdkafka does not take the token"),
        }
    }

    /// Tells librdkafka that there is no token, so that it asks again in ten seconds.
    pub(crate) fn set_no_token(&self, reason: &str) {
        let reason = CString::new(reason).unwrap_or_default();
        let reason = if reason.is_empty() { c"for no reason" } else { reason.as_c_str() };
        // SAFETY: `rk` is valid, and so is the string, which is copied.
        let _fails_without_oauthbearer =
            unsafe { rd::rd_kafka_oauthbearer_set_token_failure(self.rk.as_ptr(), reason.as_ptr()) };
    }
}
