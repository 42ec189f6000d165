//! Describes the command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ferrule_document::parse_duration;
use ferrule_identity::{SpiffeId, TrustDomain};

use super::Called;
use super::print::Format;
use crate::attest::IdPattern;

/// A certificate authority for short-lived workload certificates (SPIFFE X509-SVIDs).
#[derive(Debug, Parser)]
#[command(
    name = "ferrule-ca",
    version,
    after_long_help = "\
Example, from nothing to a certificate on disk:
  ferrule-ca init --trust-domain shop.local
  ferrule-ca issue spiffe://shop.local/ns/shop/sa/web --out web

Ends with 0 when all is well, 1 when something was found wrong or refused, 2 when it could not be looked at or done, \
64 for bad usage or settings."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// The settings file (YAML); FERRULE_CA__… variables and the flags here are laid over it
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    /// The data folder [default: ferrule-ca-data]
    #[arg(long, value_name = "FOLDER", global = true)]
    pub(super) data: Option<PathBuf>,
    /// Whose identities are issued, such as shop.local; needed once, to make a CA
    #[arg(long, value_name = "NAME", global = true, value_parser = TrustDomain::parse)]
    pub(super) trust_domain: Option<TrustDomain>,
    /// The passphrase of the keys is the first line of this file, instead of random bytes in the data folder
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) passphrase_file: Option<PathBuf>,
    /// How much is demanded of the keys' keeping [default: standard]
    #[arg(long, value_name = "PROFILE", global = true, value_parser = ["standard", "production"])]
    pub(super) profile: Option<String>,
    /// Which algorithms are used [default: standard]
    #[arg(long, value_name = "PROFILE", global = true, value_parser = ["standard", "cnsa1"])]
    pub(super) crypto: Option<String>,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(super) output: Format,
    #[arg(skip)]
    pub(super) called: Called,
}

impl Common {
    /// The flags as settings, to be laid over those of file and environment.
    pub(super) fn as_settings(&self) -> Vec<(OsString, OsString)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.clone().into_os_string());
        let text = |text: &Option<String>| text.as_ref().map(OsString::from);
        [
            ("DATA", path(&self.data)),
            (
                "TRUST_DOMAIN",
                self.trust_domain.as_ref().map(|name| name.as_str().into()),
            ),
            ("KEYS__PASSPHRASE_FILE", path(&self.passphrase_file)),
            ("PROFILE", text(&self.profile)),
            ("CRYPTO", text(&self.crypto)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((OsString::from(format!("FERRULE_CA__{name}")), value?)))
        .collect()
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Init(Init),
    Serve(Serve),
    Issue(Issue),
    #[command(subcommand)]
    Token(Token),
    Revoke(Revoke),
    #[command(subcommand)]
    Rotate(Rotate),
    /// Show the CA's certificates and what an operator should look at; ends with 1 when there is something
    #[command(after_long_help = "Example:\n  ferrule-ca status --output json")]
    Status,
    #[command(subcommand)]
    Audit(Audit),
    Backup(Backup),
    Restore(Restore),
    Fetch(Fetch),
}

/// Make a CA, or bring its certificate from an authority elsewhere
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  ferrule-ca init --trust-domain shop.local
  ferrule-ca init --trust-domain shop.local --root-cert root.pem --root-key root.key

With a root that is kept elsewhere:
  ferrule-ca init --trust-domain shop.local --csr-only > ca.csr
  (let it be signed as a certificate authority)
  ferrule-ca init --import ca.pem --root root.pem")]
pub(super) struct Init {
    /// Take this root instead of making one (PEM)
    #[arg(long, value_name = "FILE", requires = "root_key")]
    pub(super) root_cert: Option<PathBuf>,
    /// The key of --root-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "root_cert")]
    pub(super) root_key: Option<PathBuf>,
    /// The passphrase of --root-key is the first line of this file
    #[arg(long, value_name = "FILE", requires = "root_key")]
    pub(super) root_key_passphrase_file: Option<PathBuf>,
    /// Make a key, print a request for its certificate, and wait for --import
    #[arg(long, conflicts_with_all = ["root_cert", "import"])]
    pub(super) csr_only: bool,
    /// Take the certificate that was made from the request, followed by those above it (PEM)
    #[arg(long, value_name = "FILE", conflicts_with = "root_cert")]
    pub(super) import: Option<PathBuf>,
    /// The root that --import chains to (PEM); needed the first time
    #[arg(long, value_name = "FILE", requires = "import")]
    pub(super) root: Option<PathBuf>,
}

/// Serve the HTTPS API; in an empty data folder, make a CA first
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  ferrule-ca serve --trust-domain shop.local")]
pub(super) struct Serve {
    /// Where to listen [default: port 15010 on every address]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<SocketAddr>,
    /// A name or address that clients call this CA by; may be given several times [default: localhost, 127.0.0.1, ::1]
    #[arg(long = "name", value_name = "NAME")]
    pub(super) names: Vec<String>,
    /// Print the settings in force, each with its origin, and end
    #[arg(long)]
    pub(super) check: bool,
}

/// Issue a certificate here, on the CA's own machine, with a new key
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  ferrule-ca issue spiffe://shop.local/ns/shop/sa/web --out web
writes web/svid.pem (the certificate and those below the root), web/svid_key.pem and web/bundle.pem.")]
pub(super) struct Issue {
    /// The identity
    #[arg(value_name = "SPIFFE-ID", value_parser = SpiffeId::parse)]
    pub(super) id: SpiffeId,
    /// The folder to write to; what is there is replaced
    #[arg(long, value_name = "FOLDER")]
    pub(super) out: PathBuf,
    /// Certify the key of this request (PKCS#10, PEM) instead of a new one
    #[arg(long, value_name = "FILE")]
    pub(super) csr: Option<PathBuf>,
    /// How long it lasts, such as 12h [default: the setting leaf.default_lifetime]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) lifetime: Option<Duration>,
}

/// Get a certificate from a CA elsewhere, and keep it fresh with --watch
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example, with a token from `ferrule-ca token create` on the CA's machine:
  ferrule-ca fetch --token-file token --id spiffe://shop.local/ns/shop/sa/web --out web --watch
writes web/svid.pem (the certificate and those below the root), web/svid_key.pem and web/bundle.pem, each replaced
whole when it changes. The token is needed once; afterwards the host is known by its key.")]
pub(super) struct Fetch {
    /// The identity; may be left out where the token allows exactly one
    #[arg(long, value_name = "SPIFFE-ID", value_parser = SpiffeId::parse)]
    pub(super) id: Option<SpiffeId>,
    /// The folder to write to; what is there is replaced
    #[arg(long, value_name = "FOLDER")]
    pub(super) out: PathBuf,
    /// The join token is in this file; - for standard input. Not an argument, which every user of the machine sees
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// The folder in which this host keeps its key
    #[arg(long, value_name = "FOLDER", default_value = "ferrule-host")]
    pub(super) host: PathBuf,
    /// How long the certificate should last, such as 1h [default: the CA's]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) lifetime: Option<Duration>,
    /// Go on, and renew in time, through outages of the CA, until stopped
    #[arg(long)]
    pub(super) watch: bool,
}

/// Make, list and revoke join tokens, with which hosts enter
#[derive(Debug, Subcommand)]
#[command(after_long_help = "Example:\n  ferrule-ca token create --id 'spiffe://shop.local/ns/shop/*'")]
pub(super) enum Token {
    /// Make a token; it is printed once, and only its hash is kept
    #[command(after_long_help = "\
Examples:
  ferrule-ca token create --id spiffe://shop.local/ns/shop/sa/web
  ferrule-ca token create web-1 --id 'spiffe://shop.local/ns/shop/*' --lifetime 24h --address ca.shop.local:15010")]
    Create {
        /// The name of the host that will be enrolled with it [default: a random one]
        name: Option<String>,
        /// What the host may ask for: a SPIFFE ID, or one that ends in /*; may be given several times
        #[arg(long = "id", value_name = "SPIFFE-ID", required = true)]
        ids: Vec<IdPattern>,
        /// How long the token can be used
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
        lifetime: Duration,
        /// Where the host will reach the CA; may be given several times [default: its names, its port]
        #[arg(long = "address", value_name = "HOST:PORT")]
        addresses: Vec<String>,
    },
    /// List the tokens and the hosts that came with them
    #[command(after_long_help = "Example:\n  ferrule-ca token list")]
    List,
    /// Make a token unusable
    #[command(after_long_help = "Example:\n  ferrule-ca token revoke web-1")]
    Revoke {
        /// The token's name
        name: String,
    },
}

/// Take trust away from an identity, a certificate or a host, or give it back
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  ferrule-ca revoke spiffe://shop.local/ns/shop/sa/web --reason 'key was on a lost laptop'
  ferrule-ca revoke --serial 4f6a…e1 --reason 'copied'
  ferrule-ca revoke --host web-1 --reason 'sold' 
  ferrule-ca revoke --lift --host web-1 --reason 'was not sold after all'")]
pub(super) struct Revoke {
    #[command(flatten)]
    pub(super) subject: Subject,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: String,
    /// Give the trust back
    #[arg(long)]
    pub(super) lift: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Subject {
    /// The identity: all its certificates, those issued later too
    #[arg(value_name = "SPIFFE-ID")]
    pub(super) identity: Option<String>,
    /// One certificate, by its serial number in hexadecimal
    #[arg(long, value_name = "SERIAL")]
    pub(super) serial: Option<String>,
    /// An enrolled host, and all that was issued on its evidence
    #[arg(long, value_name = "NAME")]
    pub(super) host: Option<String>,
}

/// Replace the CA's own certificates, step by step
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Example, a new root:
  ferrule-ca rotate prepare     the new root is published beside the old one
  ferrule-ca rotate activate    it signs from now on; refused while somebody does not have it yet
  ferrule-ca rotate retire      the old one goes; refused while a certificate below it is live
Signing certificates are replaced by themselves while the CA is served.")]
pub(super) enum Rotate {
    /// Publish a new root beside the active one; nothing is signed with it yet
    #[command(after_long_help = "Example:\n  ferrule-ca rotate prepare")]
    Prepare {
        /// Take this root instead of making one (PEM)
        #[arg(long, value_name = "FILE")]
        root_cert: Option<PathBuf>,
        /// Its key (PEM); left out where the key stays elsewhere
        #[arg(long, value_name = "FILE", requires = "root_cert")]
        root_key: Option<PathBuf>,
    },
    /// Sign with the prepared root from now on
    #[command(after_long_help = "Example:\n  ferrule-ca rotate activate")]
    Activate,
    /// Take the prepared root back
    #[command(after_long_help = "Example:\n  ferrule-ca rotate withdraw")]
    Withdraw,
    /// Go back to the root before the active one
    #[command(after_long_help = "Example:\n  ferrule-ca rotate roll-back")]
    RollBack,
    /// Trust the root before the active one no more
    #[command(after_long_help = "Example:\n  ferrule-ca rotate retire")]
    Retire {
        /// Its fingerprint or the beginning of it; needed where several are retired
        fingerprint: Option<String>,
    },
    /// Replace the signing certificate where that is due, and clear away what is over
    #[command(after_long_help = "Example:\n  ferrule-ca rotate signing")]
    Signing,
}

/// Examine or export the record of what the CA did
#[derive(Debug, Subcommand)]
#[command(after_long_help = "Example:\n  ferrule-ca audit verify")]
pub(super) enum Audit {
    /// Check that the record is whole and unchanged; needs no key, works on a copy too
    #[command(after_long_help = "\
Examples:
  ferrule-ca audit verify
  ferrule-ca audit verify backup.db --row 1204:9f3c…")]
    Verify {
        /// A ledger or a backup [default: the ledger of the data folder]
        file: Option<PathBuf>,
        /// The fingerprint of the key that must have signed the last checkpoints
        #[arg(long, value_name = "FINGERPRINT")]
        key: Option<String>,
        /// A row that must be in it, noted earlier from this command's output
        #[arg(long, value_name = "NUMBER:HASH")]
        row: Option<String>,
    },
    /// Write the record as lines of JSON
    #[command(after_long_help = "\
Examples:
  ferrule-ca audit export > ledger.jsonl
  ferrule-ca audit export --kind issued --kind refused --mentions spiffe://shop.local/ns/shop/sa/web --since 24h")]
    Export {
        /// Only rows of this kind; may be given several times
        #[arg(long = "kind", value_name = "KIND")]
        kinds: Vec<String>,
        /// Only rows with a field of exactly this text: a SPIFFE ID, a serial, a host, a token
        #[arg(long, value_name = "TEXT")]
        mentions: Option<String>,
        /// Only rows of this last stretch of time
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        since: Option<Duration>,
    },
}

/// Copy the ledger to a new file, while the CA goes on
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  ferrule-ca backup /mnt/backup/ca-2026-11-22.db")]
pub(super) struct Backup {
    /// The file to make
    pub(super) file: PathBuf,
}

/// Make a CA again from a backup, in an empty data folder
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  ferrule-ca restore /mnt/backup/ca-2026-11-22.db --kek /mnt/safe/kek --accept-loss
  ferrule-ca restore ca.db --passphrase-file /run/secrets/ca --accept-loss")]
pub(super) struct Restore {
    /// The backup
    pub(super) file: PathBuf,
    /// The kek of the lost data folder, which the keys in the backup are locked with
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub(super) kek: Option<PathBuf>,
    /// Accept that whatever was recorded after the backup is not known any more
    #[arg(long)]
    pub(super) accept_loss: bool,
}
