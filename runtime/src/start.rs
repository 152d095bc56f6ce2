//! From options to a server that is ready to run.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;

use kv_core::{Config, Limits, Turn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::rand::{GetRandomFlags, getrandom};
use signal_hook::consts::SIGXFSZ;
use tracing::{info, warn};

use crate::access::Access;
use crate::activation::Inherited;
use crate::cli::{NAME_BYTES_MAX, Options};
use crate::clock::Clocks;
use crate::directory::DataDirectory;
use crate::failure::Failure;
use crate::listen::Listeners;
use crate::logging;
use crate::peers::{clients_at, peer_auth};
use crate::reload::{Reload, settings};
use crate::server::{Server, signals};
use crate::stderr::Stderr;
use crate::tls::Tls;

/// Descriptors that are not clients: listeners, peers, the poll, the log.
const DESCRIPTORS_RESERVED: u64 = 128;

/// Binds and builds everything, but for the sockets that it inherits; the first thing that cannot be is the failure.
/// `log` is where log lines go.
pub(crate) fn start(
    mut options: Options,
    inherited: Inherited,
    reload: Reload,
    log: &Stderr,
) -> Result<Server, Failure> {
    inherited.apply(&mut options)?;
    let access = check(&options)?;
    let tls = Tls::load(options.tls.clone())?;
    raise_descriptor_limit(options.max_clients);
    let loop_failed = |error| Failure::System("set up the event loop", error);
    let signals = signals().map_err(loop_failed)?;
    outlive_size_limit().map_err(loop_failed)?;
    let directory = options.data_dir.as_deref().map(DataDirectory::open).transpose()?;
    let (listeners, of_peers) = listeners(inherited, &options)?;
    let reached = of_peers.as_ref().unwrap_or(&listeners).address();
    let bound = reached.map_err(|error| Failure::System("read the bound address", error))?;
    let terminal = logging::is_for_people(&options).then(|| log.clone());
    let log_level = options.log_level.level();
    let of_clients = listeners.address().map_err(|error| Failure::System("read the bound address", error))?;
    let (peer_options, drain, threads) = (options.peer.clone(), options.drain.clone(), options.threads);
    let config = config(options, bound)?;
    let clients_at = clients_at(&peer_options, of_clients, &config.advertise);
    info!(name = config.name, advertise = config.advertise, peers = ?config.peers, "starting");
    let clocks = Clocks::new();
    let mut turn = Turn::new(config, clocks.now());
    let users = access.apply(&mut turn)?;
    turn.serves_clients_at(clients_at.unwrap_or_default());
    turn.started_with(log_level, reload.shown());
    let server = Server::new(turn, clocks, (listeners, of_peers), tls, (signals, users), (reload, &drain));
    let mut server = server.map_err(loop_failed)?;
    if threads > 1 {
        server.help(threads - 1)?;
    }
    if let Some(directory) = directory {
        server.load(directory, terminal)?;
    }
    Ok(server)
}

/// The sockets for clients, and those that are for peers alone, if there are to be any.
fn listeners(inherited: Inherited, options: &Options) -> Result<(Listeners, Option<Listeners>), Failure> {
    let Inherited { clients, peers } = inherited;
    let of_clients = match clients.is_empty() {
        true => Listeners::bind(options.listen, options.port)?,
        false => Listeners::inherited(clients)?,
    };
    let of_peers = match options.peer.peer_listen {
        Some(address) if peers.is_empty() => Some(Listeners::bind(Some(address.ip()), address.port())?),
        Some(_) => Some(Listeners::inherited(peers)?),
        None => None,
    };
    Ok((of_clients, of_peers))
}

/// What can be known to be wrong without starting; and if nothing is, who may in.
pub(crate) fn check(options: &Options) -> Result<Access, Failure> {
    let access = Access::prepare(&options.access)?;
    refuse_open_door(options, &access)?;
    let tls = Tls::load(options.tls.clone())?;
    peer_auth(options)?;
    let needs_tls = tls.door().is_some_and(|door| door.is_required() && !door.guards_peers());
    if needs_tls && options.peer.peer_listen.is_none() && !options.peers.0.is_empty() {
        return Err(Failure::Usage(
            "--tls required turns away the links of other nodes, which are plain; \
             give --tls-peers, or --peer-listen for an address of their own"
                .to_owned(),
        ));
    }
    Ok(access)
}

/// The same, and what a start would find out as it uses it.
pub(crate) fn check_all(options: &Options) -> Result<(), Failure> {
    check(options)?;
    match &options.data_dir {
        Some(path) if path.exists() && !path.is_dir() => {
            Err(Failure::Usage(format!("--data-dir {} is not a directory", path.display())))
        }
        _ => Ok(()),
    }
}

/// A limit on the size of files (`ulimit -f`) fails a write like a full disk, instead of ending the process.
fn outlive_size_limit() -> io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map(|_| ())
}

/// Where nobody has to log in, whoever reaches the port can read and write: that must be asked for.
fn refuse_open_door(options: &Options, access: &Access) -> Result<(), Failure> {
    let is_allowed = options.allow_unauthenticated || !access.lets_in_strangers();
    match options.listen {
        Some(address) if !address.is_loopback() && !is_allowed => Err(Failure::Usage(format!(
            "--listen {address} would let everybody who reaches it read and write; \
             give --password-file or --acl-file, or add --allow-unauthenticated if its network is trusted"
        ))),
        _ => Ok(()),
    }
}

/// Lets the process open as many files as the system allows without being asked.
pub(crate) fn raise_descriptor_limit(clients_max: usize) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        warn!(%error, "cannot raise the limit of open files");
    }
    let needed = clients_max as u64 + DESCRIPTORS_RESERVED;
    if let Some(limit) = getrlimit(Resource::Nofile).current
        && limit < needed
    {
        warn!(limit, needed, "open files are limited below what --max-clients needs; raise the limit (ulimit -Hn)");
    }
}

/// What a node is told at its start that listens at `bound`.
pub(crate) fn config(options: Options, bound: SocketAddr) -> Result<Config, Failure> {
    let settings = settings(&options);
    let disk = options.disk();
    let peer_auth = peer_auth(&options)?;
    let peers = options.peers.0;
    let advertise = match options.advertise {
        Some(address) => address,
        None => check_advertised(advertised(bound, &peers))?,
    };
    let seed = fresh_seed().map_err(|error| Failure::System("read random bytes", error))?;
    let name = options.name.unwrap_or_else(|| advertise.clone());
    let mut config = Config {
        cluster: options.cluster,
        peers,
        peer_auth,
        limits: Limits { ring_bytes: options.ring_size, ..Limits::default() },
        disk,
        ..Config::new(seed, name, advertise)
    };
    settings.apply(&mut config);
    Ok(config)
}

/// Where the others reach a node bound to `bound`: there, if that is one address; else the address from which it
/// reaches its peers; else its host name.
fn advertised(bound: SocketAddr, peers: &[String]) -> String {
    if !bound.ip().is_unspecified() {
        return bound.to_string();
    }
    match peers.iter().find_map(|peer| local_address_towards(peer).ok()) {
        Some(address) => SocketAddr::new(address, bound.port()).to_string(),
        None => format!("{}:{}", rustix::system::uname().nodename().to_string_lossy(), bound.port()),
    }
}

/// A host name may be longer than what the other nodes take, though on Linux it is not.
fn check_advertised(address: String) -> Result<String, Failure> {
    if address.len() > NAME_BYTES_MAX {
        return Err(Failure::Usage("this machine's name is too long to be advertised; give --advertise".to_owned()));
    }
    Ok(address)
}

/// The address that packets to `peer` leave from. Connecting a datagram socket asks the routes and sends nothing.
fn local_address_towards(peer: &str) -> io::Result<IpAddr> {
    let mut last = io::Error::other("the name has no address");
    for address in peer.to_socket_addrs()? {
        let from = match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let asked = UdpSocket::bind((from, 0)).and_then(|socket| {
            socket.connect(address)?;
            socket.local_addr()
        });
        match asked {
            Ok(local) => return Ok(local.ip()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Randomness of the operating system, different at every start.
pub(crate) fn fresh_seed() -> io::Result<[u64; 4]> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    let (words, _) = bytes.as_chunks::<8>();
    Ok([0, 1, 2, 3].map(|index| u64::from_le_bytes(words[index])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advertised_address_is_one_that_others_can_dial() {
        let of = |bound: &str, peers: &[&str]| {
            let peers: Vec<String> = peers.iter().map(|&peer| peer.to_owned()).collect();
            advertised(bound.parse().unwrap(), &peers)
        };
        assert_eq!(of("127.0.0.1:8080", &["localhost:1"]), "127.0.0.1:8080");
        assert_eq!(of("[::1]:8080", &[]), "[::1]:8080");
        assert_eq!(of("0.0.0.0:8080", &["127.0.0.1:9"]), "127.0.0.1:8080");
        let by_name = of("0.0.0.0:8080", &[]);
        assert!(by_name.ends_with(":8080") && !by_name.starts_with("0.0.0.0"), "{by_name}");
    }

    #[test]
    fn a_derived_name_is_no_longer_than_a_given_one() {
        let longest = "h".repeat(NAME_BYTES_MAX);
        assert_eq!(check_advertised(longest.clone()).unwrap(), longest);
        assert!(matches!(check_advertised(longest + "h"), Err(Failure::Usage(_))));
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(fresh_seed().unwrap(), fresh_seed().unwrap());
    }
}
