//! The seed image format, version 4: read it as a stream, write it (contract S 1).
//!
//! | Module | Knows |
//! |---|---|
//! | [`registry`], [`auth`], [`trust`] | an image in a registry |
//! | [`mirrors`] | where else it can be had |
//! | [`pin`] | what an image is once its digests are known |
//! | [`signature`] | who signed an image |
//! | [`layout`], [`spool`] | an image on disk |
//! | [`reader`], [`writer`] | the files of a seed |
//! | [`index`] | where in a seed what lies |
//! | [`pipe`] | bytes on their way between threads |
//! | [`archive`], [`extract`] | tar with all metadata, written and read |
//!
//! There is no ostree and no Kubernetes here: what the parts of a seed are for is the callers'
//! business.

pub mod archive;
pub mod auth;
pub mod extract;
pub mod index;
pub mod layout;
pub mod mirrors;
pub mod pin;
pub mod pipe;
pub mod reader;
pub mod registry;
pub mod signature;
pub mod spool;
pub mod trust;
pub mod watch;
pub mod writer;
mod xattr;
