//! One host on the wire: a network namespace with an address of each family.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::{Process, run};

/// A network namespace joined to the wire. It lives as long as the test's mount namespace.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    number: u8,
    namespace: PathBuf,
    folder: PathBuf,
    ids: Ids,
}

/// Which user ids there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// All that the machine has.
    All,
    /// One, which is shown as root's.
    One,
}

impl Ids {
    /// Those of the user namespace that this process is in.
    pub fn here() -> Self {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap();
        match map.split_whitespace().nth(2) {
            Some("1") => Self::One,
            _ => Self::All,
        }
    }
}

impl Host {
    /// Makes the host, joins it to the bridge [`WIRE`], and waits for nothing: its addresses work at once.
    pub(super) fn new(name: &str, number: u8, all: &Path) -> Self {
        let folder = all.join(name);
        fs::create_dir(&folder).unwrap();
        let namespace = all.join(format!("{name}.netns"));
        File::create(&namespace).unwrap();
        let mut file = std::ffi::OsString::from("--net=");
        file.push(&namespace);
        run(Command::new("unshare").arg(&file).arg("true"));
        let host = Self {
            name: name.to_owned(),
            number,
            namespace,
            folder,
            ids: Ids::here(),
        };
        if host.ids == Ids::All {
            chown(&host.folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let (v4, v6) = (host.v4(), host.v6());
        run(Command::new("ip")
            .args([
                "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns",
            ])
            .arg(&host.namespace));
        run(Command::new("ip").args(["link", "set", name, "master", WIRE, "up"]));
        host.ip(&["link", "set", "lo", "up"]);
        host.ip(&["link", "set", "eth0", "up"]);
        host.ip(&["address", "add", &format!("{v4}/24"), "dev", "eth0"]);
        // No check for duplicates: it would take a second in which the address cannot be used.
        host.ip(&["address", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"]);
        host.ip(&["route", "add", "default", "via", &wire_v4().to_string()]);
        host.ip(&["-6", "route", "add", "default", "via", &wire_v6().to_string()]);
        host
    }

    /// Its name, which is also that of its link on the wire.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(self.number))
    }

    /// Both addresses, IPv4 first.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4().into(), self.v6().into()]
    }

    /// A folder of its own, which its applications may write to.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A command that runs on this host as the test's own user, with its privileges.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let mut file = std::ffi::OsString::from("--net=");
        file.push(&self.namespace);
        command.arg(file).arg(program.as_ref());
        command
    }

    /// A command that runs on this host as an application: as `nobody`, without privileges.
    pub fn app(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match self.ids {
            Ids::All => self.command_as(NOBODY),
            Ids::One => {
                let mut command = self.command("unshare");
                let id = NOBODY.to_string();
                command.args(["--user", "--map-user", &id, "--map-group", &id]);
                command
            }
        };
        command.arg(program.as_ref());
        command.env("HOME", &self.folder).env("TMPDIR", &self.folder);
        command
    }

    /// A command, lacking its program, that runs on this host under another user id. All ids must be mapped.
    pub(super) fn command_as(&self, id: u32) -> Command {
        let id = id.to_string();
        let mut command = self.command("setpriv");
        command.args([
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
        ]);
        command
    }

    /// Starts an application beside the test.
    pub fn start(&self, name: &str, command: &mut Command) -> Process {
        Process::start(&format!("{}-{name}", self.name), command, &self.folder)
    }

    /// Runs `work` on a thread of this process that is on this host, and waits for it. Sockets that it opens
    /// there stay there, wherever they are used.
    ///
    /// # Panics
    /// When `work` does.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                self.enter();
                work()
            });
            entered
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread onto this host, for good.
    pub fn enter(&self) {
        let namespace = File::open(&self.namespace).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    pub(super) const fn ids(&self) -> Ids {
        self.ids
    }

    fn ip(&self, arguments: &[&str]) {
        run(self.command("ip").args(arguments));
    }
}

/// The bridge that joins the hosts, in the namespace of the test itself.
pub const WIRE: &str = "wire";

/// The IPv4 address of the test itself on the wire, where the hosts' default routes lead.
pub const fn wire_v4() -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 254)
}

/// The IPv6 address of the test itself on the wire.
pub const fn wire_v6() -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 254)
}

/// The user id of applications.
pub const NOBODY: u32 = 65_534;
