//! WASI for guests that are pure functions: a clock that stands still, randomness from a fixed seed, streams
//! that never block. The same input gives the same bytes, today and in a replay.
//!
//! The ordinary synchronous implementation enters a tokio runtime by itself, which is an error where one is
//! running already; nothing here ever waits, so nothing here needs one.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::io as blocking;
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult};

use crate::store::HostState;

/// The parts of a store's state that inert WASI works on.
pub(crate) struct Inert<'a> {
    table: &'a mut ResourceTable,
    seed: &'a mut u64,
}

struct InertData;

impl HasData for InertData {
    type Data<'a> = Inert<'a>;
}

fn inert(state: &mut HostState) -> Inert<'_> {
    Inert { table: &mut state.table, seed: &mut state.seed }
}

/// Clocks that stand still.
pub(crate) fn link_clocks(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wall_clock::add_to_linker::<HostState, InertData>(linker, inert)?;
    monotonic_clock::add_to_linker::<HostState, InertData>(linker, inert)
}

/// Randomness from a fixed seed.
pub(crate) fn link_random(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    random::add_to_linker::<HostState, InertData>(linker, inert)?;
    insecure::add_to_linker::<HostState, InertData>(linker, inert)?;
    insecure_seed::add_to_linker::<HostState, InertData>(linker, inert)
}

/// Streams that never block.
pub(crate) fn link_io(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    blocking::error::add_to_linker::<HostState, InertData>(linker, inert)?;
    poll::add_to_linker::<HostState, InertData>(linker, inert)?;
    streams::add_to_linker::<HostState, InertData>(linker, inert)
}

fn cannot_wait<T>() -> wasmtime::Result<T> {
    Err(wasmtime::Error::msg("this guest has no clock to wait by; grant \"clocks\" if it is a consumer"))
}

/// The result of something that never waits.
fn at_once<T>(future: impl Future<Output = StreamResult<T>>) -> StreamResult<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(StreamError::trap("a pure guest cannot wait")),
    }
}

impl wall_clock::Host for Inert<'_> {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 0 })
    }
    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 1, nanoseconds: 0 })
    }
}

impl monotonic_clock::Host for Inert<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(0)
    }
    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }
    fn subscribe_instant(&mut self, _: u64) -> wasmtime::Result<Resource<DynPollable>> {
        cannot_wait()
    }
    fn subscribe_duration(&mut self, _: u64) -> wasmtime::Result<Resource<DynPollable>> {
        cannot_wait()
    }
}

impl Inert<'_> {
    /// SplitMix64: the same numbers in every instance.
    fn number(&mut self) -> u64 {
        *self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*self.seed ^ (*self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        if len > 1 << 16 {
            return Err(wasmtime::Error::msg("a guest asked for more than 64 KiB of randomness at once"));
        }
        Ok(std::iter::repeat_with(|| self.number().to_le_bytes()).flatten().take(len as usize).collect())
    }
}

impl random::Host for Inert<'_> {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(len)
    }
    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.number())
    }
}

impl insecure::Host for Inert<'_> {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(len)
    }
    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.number())
    }
}

impl insecure_seed::Host for Inert<'_> {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.number(), self.number()))
    }
}

impl poll::Host for Inert<'_> {
    /// Only streams can be subscribed to, and all of them are always ready.
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        Ok((0..pollables.len() as u32).collect())
    }
}

impl poll::HostPollable for Inert<'_> {
    fn ready(&mut self, _: Resource<DynPollable>) -> wasmtime::Result<bool> {
        Ok(true)
    }
    fn block(&mut self, _: Resource<DynPollable>) -> wasmtime::Result<()> {
        Ok(())
    }
    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        blocking::poll::HostPollable::drop(self.table, pollable)
    }
}

impl blocking::error::Host for Inert<'_> {}

impl blocking::error::HostError for Inert<'_> {
    fn drop(&mut self, error: Resource<blocking::error::Error>) -> wasmtime::Result<()> {
        blocking::error::HostError::drop(self.table, error)
    }
    fn to_debug_string(&mut self, error: Resource<blocking::error::Error>) -> wasmtime::Result<String> {
        blocking::error::HostError::to_debug_string(self.table, error)
    }
}

impl streams::Host for Inert<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        streams::Host::convert_stream_error(self.table, error)
    }
}

use blocking::streams::{HostInputStream as Input, HostOutputStream as Output};

impl streams::HostOutputStream for Inert<'_> {
    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        at_once(async { Output::drop(self.table, stream).await.map_err(StreamError::Trap) })
            .map_err(|error| wasmtime::Error::msg(error.to_string()))
    }
    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        Output::check_write(self.table, stream)
    }
    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        Output::write(self.table, stream, bytes)
    }
    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        at_once(Output::blocking_write_and_flush(self.table, stream, bytes))
    }
    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        at_once(Output::blocking_write_zeroes_and_flush(self.table, stream, len))
    }
    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        Output::subscribe(self.table, stream)
    }
    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        Output::write_zeroes(self.table, stream, len)
    }
    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        Output::flush(self.table, stream)
    }
    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        at_once(Output::blocking_flush(self.table, stream))
    }
    fn splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        Output::splice(self.table, to, from, len)
    }
    fn blocking_splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        at_once(Output::blocking_splice(self.table, to, from, len))
    }
}

impl streams::HostInputStream for Inert<'_> {
    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        at_once(async { Input::drop(self.table, stream).await.map_err(StreamError::Trap) })
            .map_err(|error| wasmtime::Error::msg(error.to_string()))
    }
    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        Input::read(self.table, stream, len)
    }
    fn blocking_read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        at_once(Input::blocking_read(self.table, stream, len))
    }
    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        Input::skip(self.table, stream, len)
    }
    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        at_once(Input::blocking_skip(self.table, stream, len))
    }
    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        Input::subscribe(self.table, stream)
    }
}
