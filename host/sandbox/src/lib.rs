//! Guests: the only crate that names wasmtime. It loads components, links and limits them before their first
//! call, hands them windows as columns, checks everything that comes back, and tells apart how they can end.
//! What a policy, a filter or a consumer means to the pipeline is wired elsewhere.

// The engine, and what is loaded into it.
pub mod limits;
mod sandbox;

mod cache;
pub mod catalogue;
mod module;

// One guest: what it may, how it is called, how it can end.
mod grant;

mod link;

mod error;
mod guest;
mod inert;
mod pipe;
mod store;

// The contract and its columns.
mod abi;
mod convert;
mod events;
mod table;
mod text;

// The stages of a stream.
mod declined;
mod filter;
mod policy;
mod predicate;
mod projection;

mod batch;
mod condition;
mod consumer;
mod effects;

pub use abi::{Comparison, Condition};
pub use consumer::{ConsumerStage, Delivered, DeliveryError, DeliveryPhase};
pub use effects::{OutputChange, OutputRows, StateReader, StateWrite};
pub use error::{Answer, BoxError, Ending, GuestEnd, GuestError, LimitHit, Place, RejectedRow, Trap};
pub use filter::FilterStage;
pub use grant::{Grant, GrantError};
pub use guest::GuestConfig;
pub use limits::Limits;
pub use module::{Kind, LoadError, LoadReason, Module};
pub use policy::{PolicyStage, Reads};
pub use predicate::{Bounds, ColumnCondition, Predicate, PredicateError, PredicateStage};
pub use projection::ProjectionStage;
pub use sandbox::{Sandbox, SandboxConfig, SandboxError};
