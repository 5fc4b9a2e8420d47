//! What guests find when they are linked: the contract's imports, and WASI 0.2 with nothing behind it but what
//! was granted. The interfaces are all there, since every toolchain imports some of them; without a grant
//! they hold no directory, no address, no value and no clock.

use wasmtime::Engine;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{LinkOptions, cli, clocks, filesystem, io, random, sockets, sync};
use wasmtime_wasi::random::{WasiRandom, WasiRandomCtx};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};

use crate::effects;
use crate::grant::Grant;
use crate::inert;
use crate::store::{self, HostState};

type Linked = wasmtime::Result<()>;

/// For filters, projections and policies: nothing but `host`, and everything inert.
pub(crate) fn pure(engine: &Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    store::link_host(&mut linker)?;
    link_common(&mut linker)?;
    inert::link_clocks(&mut linker)?;
    inert::link_random(&mut linker)?;
    inert::link_io(&mut linker)?;
    // No directory is ever opened and no socket made, so that nothing behind these can block.
    sync::filesystem::types::add_to_linker::<_, WasiFilesystem>(&mut linker, HostState::filesystem)?;
    sync::sockets::tcp::add_to_linker::<_, WasiSockets>(&mut linker, HostState::sockets)?;
    sync::sockets::udp::add_to_linker::<_, WasiSockets>(&mut linker, HostState::sockets)?;
    sync::sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(&mut linker, HostState::sockets)?;
    Ok(linker)
}

/// For consumers: their effects, and what was granted.
pub(crate) fn consumer(engine: &Engine, grants: &[Grant]) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    store::link_host(&mut linker)?;
    effects::link(&mut linker)?;
    link_common(&mut linker)?;
    if grants.contains(&Grant::Clocks) {
        clocks::wall_clock::add_to_linker::<_, WasiClocks>(&mut linker, HostState::clocks)?;
        clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(&mut linker, HostState::clocks)?;
    } else {
        inert::link_clocks(&mut linker)?;
    }
    if grants.contains(&Grant::Random) {
        random::random::add_to_linker::<_, WasiRandom>(&mut linker, randomness)?;
        random::insecure::add_to_linker::<_, WasiRandom>(&mut linker, randomness)?;
        random::insecure_seed::add_to_linker::<_, WasiRandom>(&mut linker, randomness)?;
    } else {
        inert::link_random(&mut linker)?;
    }
    link_waiting(&mut linker)?;
    Ok(linker)
}

/// What never waits.
fn link_common(linker: &mut Linker<HostState>) -> Linked {
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(linker, HostState::filesystem)?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, HostState::cli)?;
    cli::environment::add_to_linker::<_, WasiCli>(linker, HostState::cli)?;
    cli::stdin::add_to_linker::<_, WasiCli>(linker, HostState::cli)?;
    cli::stdout::add_to_linker::<_, WasiCli>(linker, HostState::cli)?;
    cli::stderr::add_to_linker::<_, WasiCli>(linker, HostState::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, HostState::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, HostState::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, HostState::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, HostState::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, HostState::cli)?;
    let options = LinkOptions::default();
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(linker, HostState::sockets)?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(linker, HostState::sockets)?;
    sockets::network::add_to_linker::<_, WasiSockets>(linker, &(&options).into(), HostState::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(linker, HostState::sockets)
}

/// What may wait, for guests that are called asynchronously.
fn link_waiting(linker: &mut Linker<HostState>) -> Linked {
    io::error::add_to_linker::<_, Table>(linker, table)?;
    io::poll::add_to_linker::<_, Table>(linker, table)?;
    io::streams::add_to_linker::<_, Table>(linker, table)?;
    filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, HostState::filesystem)?;
    sockets::tcp::add_to_linker::<_, WasiSockets>(linker, HostState::sockets)?;
    sockets::udp::add_to_linker::<_, WasiSockets>(linker, HostState::sockets)?;
    sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(linker, HostState::sockets)
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

fn table(state: &mut HostState) -> &mut ResourceTable {
    &mut state.table
}

fn randomness(state: &mut HostState) -> &mut WasiRandomCtx {
    state.ctx().ctx.random()
}
