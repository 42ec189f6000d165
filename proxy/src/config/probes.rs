//! Reads the probes that are asked in the workload's place.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use ferrule_document::{Fields, Item};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};

use super::{HttpProbe, Probe, ProbeAsk, ProbesConfig};

/// Reads the whole section.
pub(super) fn probes(fields: &mut Fields<'_>) -> Option<ProbesConfig> {
    let listen = fields.default("listen", "0.0.0.0:15021", |item| item.parsed());
    let declared = fields.default("declared", "[]", |item| item.list(|item| item.fields(probe)));
    Some(ProbesConfig {
        listen: listen?,
        declared: declared?,
    })
}

fn probe(fields: &mut Fields<'_>) -> Option<Probe> {
    let name = fields.required("name", |item| item.text());
    let timeout = fields.default("timeout", "1s", |item| item.duration_in(ANSWER));
    let ask = fields.required("ask", |item| {
        item.one_field(&["http", "tcp", "grpc"], |name, item| {
            item.fields(|fields| match name {
                "http" => http(fields).map(ProbeAsk::Http),
                "tcp" => port(fields).map(|port| ProbeAsk::Tcp { port }),
                _ => grpc(fields),
            })
        })
    });
    Some(Probe {
        name: name?,
        timeout: timeout?,
        ask: ask?,
    })
}

fn http(fields: &mut Fields<'_>) -> Option<HttpProbe> {
    let port = port(fields);
    let path = fields.default("path", "/", |item| {
        item.checked(|text| text.parse::<PathAndQuery>().map(|_| text.to_owned()))
    });
    let tls = fields.default("scheme", "http", |item| {
        item.one_of(&[("http", false), ("https", true)])
    });
    let headers = fields.default("headers", "[]", |item| item.list(|item| item.fields(header)));
    Some(HttpProbe {
        port: port?,
        path: path?,
        tls: tls?,
        headers: headers?,
    })
}

fn header(fields: &mut Fields<'_>) -> Option<(HeaderName, HeaderValue)> {
    let name = fields.required("name", |item| item.checked(str::parse::<HeaderName>));
    let value = fields.default("value", "\"\"", |item| value(&item));
    Some((name?, value?))
}

fn value(item: &Item<'_>) -> Option<HeaderValue> {
    item.checked(HeaderValue::from_str)
}

fn grpc(fields: &mut Fields<'_>) -> Option<ProbeAsk> {
    let port = port(fields);
    let service = fields.default("service", "\"\"", |item| item.block());
    Some(ProbeAsk::Grpc {
        port: port?,
        service: service?,
    })
}

fn port(fields: &mut Fields<'_>) -> Option<NonZeroU16> {
    let port = fields.required("port", |item| item.port());
    port.and_then(NonZeroU16::new)
}

const ANSWER: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
