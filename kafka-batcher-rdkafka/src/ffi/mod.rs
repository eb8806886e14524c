//! The only module that talks to the C library; everything outside of it is safe code.
//!
//! What makes it sound, in one place:
//!
//! * **Values are borrowed by librdkafka**, from the moment a record is handed over until its delivery
//!   report (or until the client is destroyed). `Client::hold` therefore puts the batch's parcel into
//!   the client's `held` map, and only [`Client`] takes it out again, when as many reports came in as
//!   records were handed over. Nobody outside can shorten that. A batch's buffer is immutable and does
//!   not move while a handle to it exists.
//! * **A record's opaque is a number**, its ticket, and never dereferenced. The map translates it.
//! * **Error codes are read as `i32`**, never as the generated Rust enum: a broker may send a code that
//!   the enum doesn't know, and such a value in an enum would be undefined behaviour.
//! * The client's pointers are freed once, in `Drop`, topics and queue before the client itself.
#![expect(unsafe_code, reason = "librdkafka is a C library")]

mod ask;
mod client;
mod conf;
mod create_topic;
mod hand_over;
mod held;
mod log;
mod raw;
mod report;
mod text;
mod token;

pub(crate) use client::{Client, Kind, Said};
pub(crate) use conf::{Conf, Unfit, X509_ERROR};
pub(crate) use hand_over::Step;
pub(crate) use log::Read;
pub(crate) use report::{Report, Reports};
pub(crate) use text::describe;
