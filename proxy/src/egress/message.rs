//! Writes questions of DNS, and reads the answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ferrule_policy::HostName;
use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};

/// Which kind of address is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Records of type A.
    V4,
    /// Records of type AAAA.
    V6,
}

/// What a resolver answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name has these addresses, for this time.
    Found(Vec<IpAddr>, Duration),
    /// The name has none of this kind.
    Nothing,
    /// The answer does not fit into a datagram: it has to be asked for over TCP (RFC 7766 §5).
    Cut,
}

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It cannot be read.
    #[error("the message cannot be read")]
    Unreadable,
    /// It answers another question, or none.
    #[error("the message answers another question")]
    Other,
    /// The resolver could not or would not answer.
    #[error("the resolver answers {code:?}")]
    Refused {
        /// Its word (RFC 1035 §4.1.1).
        code: RCODE,
    },
    /// A name that does not fit into a message.
    #[error("the name does not fit into a question")]
    Name,
}

/// A question for the addresses of `host`, exactly that name and none of a search list, as message number `id`.
///
/// # Errors
/// When the name does not fit into a message, which no [`HostName`] does.
pub fn question(id: u16, host: &HostName, family: Family) -> Result<Vec<u8>, MessageError> {
    let name = Name::new(host.as_str()).map_err(|_| MessageError::Name)?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet
        .questions
        .push(Question::new(name, kind(family), QCLASS::CLASS(CLASS::IN), false));
    *packet.opt_mut() = Some(OPT {
        opt_codes: Vec::new(),
        udp_packet_size: DATAGRAM_BYTES,
        version: 0,
    });
    packet.build_bytes_vec().map_err(|_| MessageError::Name)
}

/// Reads the answer to the question number `id` for `host`.
///
/// # Errors
/// When it is no answer to that question, or not one that tells anything.
pub fn answer(bytes: &[u8], id: u16, host: &HostName, family: Family) -> Result<Answer, MessageError> {
    let packet = Packet::parse(bytes).map_err(|_| MessageError::Unreadable)?;
    let name = Name::new(host.as_str()).map_err(|_| MessageError::Name)?;
    let ours = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && matches!(packet.questions.as_slice(), [one] if is_same(&one.qname, &name) && one.qtype == kind(family));
    if !ours {
        return Err(MessageError::Other);
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(Answer::Cut);
    }
    match packet.rcode() {
        RCODE::NoError => Ok(addresses(&packet.answers, name, family)),
        RCODE::NameError => Ok(Answer::Nothing),
        code => Err(MessageError::Refused { code }),
    }
}

/// Follows other names of the host (CNAME) to its addresses.
fn addresses(records: &[ResourceRecord<'_>], host: Name<'_>, family: Family) -> Answer {
    let mut current = host;
    let mut least = u32::MAX;
    for _ in 0..MOST_ALIASES {
        let alias = records.iter().find_map(|record| match &record.rdata {
            RData::CNAME(alias) if is_same(&record.name, &current) => Some((alias.0.clone(), record.ttl)),
            _ => None,
        });
        let Some((next, ttl)) = alias else { break };
        current = next;
        least = least.min(ttl);
    }
    let mut found = Vec::new();
    for record in records.iter().filter(|record| is_same(&record.name, &current)) {
        let address = match (&record.rdata, family) {
            (RData::A(a), Family::V4) => Ipv4Addr::from_bits(a.address).into(),
            (RData::AAAA(aaaa), Family::V6) => Ipv6Addr::from_bits(aaaa.address).into(),
            _ => continue,
        };
        least = least.min(record.ttl);
        if found.len() < MOST_ADDRESSES && !found.contains(&address) {
            found.push(address);
        }
    }
    match found.is_empty() {
        true => Answer::Nothing,
        false => Answer::Found(found, Duration::from_secs(least.into())),
    }
}

/// Names are compared without regard to case (RFC 4343).
fn is_same(one: &Name<'_>, other: &Name<'_>) -> bool {
    one.as_bytes()
        .map(<[u8]>::to_ascii_lowercase)
        .eq(other.as_bytes().map(<[u8]>::to_ascii_lowercase))
}

const fn kind(family: Family) -> QTYPE {
    QTYPE::TYPE(match family {
        Family::V4 => TYPE::A,
        Family::V6 => TYPE::AAAA,
    })
}

/// What we take in one datagram: what crosses every network unfragmented.
pub const DATAGRAM_BYTES: u16 = 1232;

/// The longest chain of other names that is followed.
const MOST_ALIASES: usize = 16;

/// The most addresses of one name that are kept.
const MOST_ADDRESSES: usize = 32;

#[cfg(test)]
mod tests {
    use simple_dns::rdata::{A, AAAA, CNAME};

    use super::*;

    fn host(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }

    /// The reply to `question`, with these records.
    fn reply(question: &[u8], code: RCODE, records: &[(&'static str, u32, RData<'static>)]) -> Vec<u8> {
        let mut packet = Packet::parse(question).unwrap().into_reply();
        *packet.rcode_mut() = code;
        for (name, ttl, data) in records {
            let name = Name::new_unchecked(name);
            packet
                .answers
                .push(ResourceRecord::new(name, CLASS::IN, *ttl, data.clone()));
        }
        packet.build_bytes_vec_compressed().unwrap()
    }

    fn a(last: u32) -> RData<'static> {
        RData::A(A {
            address: 0xc000_0200 + last,
        })
    }

    fn alias(name: &'static str) -> RData<'static> {
        RData::CNAME(CNAME(Name::new_unchecked(name)))
    }

    #[test]
    fn addresses_are_found_behind_other_names() {
        let api = host("api.example.com");
        let question = question(7, &api, Family::V4).unwrap();
        let bytes = reply(
            &question,
            RCODE::NoError,
            &[
                ("edge.example.net", 60, a(1)),
                ("API.example.com", 300, alias("edge.Example.net")),
                ("edge.example.net", 30, a(2)),
                ("other.example.net", 5, a(3)),
            ],
        );
        let found = vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        assert_eq!(
            answer(&bytes, 7, &api, Family::V4),
            Ok(Answer::Found(found, Duration::from_secs(30)))
        );
    }

    #[test]
    fn an_answer_to_something_else_does_not_count() {
        let api = host("api.example.com");
        let asked = question(7, &api, Family::V4).unwrap();
        let bytes = reply(&asked, RCODE::NoError, &[("api.example.com", 60, a(1))]);
        let other = Err(MessageError::Other);
        assert_eq!(answer(&bytes, 8, &api, Family::V4), other);
        assert_eq!(answer(&bytes, 7, &host("api.example.org"), Family::V4), other);
        assert_eq!(answer(&bytes, 7, &api, Family::V6), other);
        assert_eq!(answer(&asked, 7, &api, Family::V4), other);
        assert_eq!(
            answer(b"\0\x07", 7, &api, Family::V4),
            Err(MessageError::Unreadable)
        );
    }

    #[test]
    fn a_name_without_addresses_is_told_from_a_resolver_without_answers() {
        let api = host("api.example.com");
        let asked = question(7, &api, Family::V6).unwrap();
        let of = |code, records: &[_]| answer(&reply(&asked, code, records), 7, &api, Family::V6);
        assert_eq!(of(RCODE::NameError, &[]), Ok(Answer::Nothing));
        assert_eq!(of(RCODE::NoError, &[]), Ok(Answer::Nothing));
        assert_eq!(
            of(RCODE::NoError, &[("api.example.com", 60, a(1))]),
            Ok(Answer::Nothing)
        );
        let code = RCODE::ServerFailure;
        assert_eq!(of(code, &[]), Err(MessageError::Refused { code }));
        let loops = [
            ("api.example.com", 60, alias("b.example.com")),
            ("b.example.com", 60, alias("api.example.com")),
        ];
        assert_eq!(of(RCODE::NoError, &loops), Ok(Answer::Nothing));
        let six = RData::AAAA(AAAA { address: 1 << 125 });
        let found = vec!["2000::".parse().unwrap()];
        assert_eq!(
            of(RCODE::NoError, &[("api.example.com", 9, six)]),
            Ok(Answer::Found(found, Duration::from_secs(9)))
        );
    }
}
