//! Writes the page that customers see: HTML that needs no script, and asks for itself anew.

use std::fmt::{self, Display, Write as _};

use serde_json::Value;

/// The page of a shop. `goods` is what the api answered, `attempts` what the intruder told, `view` what the sidecars
/// saw, where the mesh shows it.
pub(crate) fn page(goods: &Value, attempts: &[Value], view: Option<&Value>) -> String {
    let mut html = String::new();
    // Writing to a text cannot fail.
    let _ = write_page(&mut html, goods, attempts, view);
    html
}

fn write_page(out: &mut String, goods: &Value, attempts: &[Value], view: Option<&Value>) -> fmt::Result {
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta http-equiv=\"refresh\" content=\"{REFRESH}\">\n\
         <title>A shop behind Ferrule</title>\n<style>\n{STYLE}</style>\n<h1>A shop behind Ferrule</h1>\n\
         <p>Three programs answered to show this page. They speak plain HTTP and know nothing of certificates. Between \
         them runs mutual TLS: each side proved who it is, and a rule allowed each call. A fourth program tries what it \
         may not. This page asks for itself anew every {REFRESH} seconds.</p>\n"
    )?;
    chain(out, goods, view)?;
    match view {
        Some(view) => {
            edges(out, view)?;
            members(out, view)?;
        }
        None => writeln!(
            out,
            "<p class=\"faint\">Who speaks with whom is not shown to this page: under <code>ferrule up</code>, a workload \
             with <code>view: true</code> may see it.</p>"
        )?,
    }
    intruder(out, attempts)?;
    shelf(out, goods)?;
    writeln!(
        out,
        "<p class=\"faint\">More from a terminal: <code>ferrule edges</code>, <code>ferrule tap</code>, \
         <code>ferrule verify web api</code>, <code>ferrule check</code>. Edit a rule in the mesh file, and see it change \
         here within seconds.</p>\n</html>"
    )
}

/// The programs that answered, each with who it is.
fn chain(out: &mut String, goods: &Value, view: Option<&Value>) -> fmt::Result {
    writeln!(out, "<h2>The calls behind this page</h2>")?;
    if let Some(error) = goods["error"].as_str() {
        return writeln!(
            out,
            "<p class=\"bad\">The goods cannot be had: {}</p>",
            Safe(error)
        );
    }
    let mut who = "publish".to_owned();
    writeln!(out, "<div class=\"chain\">")?;
    hop(out, "your browser", identity(view, &who))?;
    for program in rows(&goods["hops"]).map(|hop| text(&hop["program"])) {
        let link = view.and_then(|view| allowed(view, &who, program));
        match link {
            Some(edge) => writeln!(
                out,
                "<div class=\"link\">mutual TLS →<br>{}</div>",
                Safe(text(&edge["traffic"]["rule"]))
            )?,
            None => writeln!(out, "<div class=\"link\">→</div>")?,
        }
        hop(out, program, identity(view, program))?;
        program.clone_into(&mut who);
    }
    writeln!(out, "</div>")
}

fn hop(out: &mut String, name: &str, identity: Option<&str>) -> fmt::Result {
    let identity = identity.unwrap_or_default();
    writeln!(
        out,
        "<div class=\"hop\"><b>{}</b><small>{}</small></div>",
        Safe(name),
        Safe(identity)
    )
}

/// The identity of the workload of that name, in the namespace of whoever is first of that name.
fn identity<'v>(view: Option<&'v Value>, name: &str) -> Option<&'v str> {
    let begin = format!("{name}.");
    let member = rows(&view?["members"]).find(|member| text(&member["name"]).starts_with(&begin))?;
    member["identity"].as_str()
}

/// What is known of the calls from one program to another that went through.
fn allowed<'v>(view: &'v Value, from: &str, to: &str) -> Option<&'v Value> {
    let named = |name: &Value, program: &str| text(name).split('.').next() == Some(program);
    rows(&view["edges"]).find(|row| {
        let edge = &row["edge"];
        edge["tls"] == "mutual"
            && edge["verdict"] == "allow"
            && named(&edge["who"], from)
            && named(&edge["whom"], to)
    })
}

/// Who speaks with whom, and what became of it.
fn edges(out: &mut String, view: &Value) -> fmt::Result {
    writeln!(
        out,
        "<h2>Who speaks with whom</h2>\n<p>As the sidecars saw it since the mesh began.</p>\n<table>\n<thead><tr><th>caller</th>\
         <th>called</th><th>port</th><th>verdict</th><th>times</th><th>transport</th><th>why</th></tr></thead>\n<tbody>"
    )?;
    for row in rows(&view["edges"]) {
        let (edge, traffic) = (&row["edge"], &row["traffic"]);
        let evidence = &traffic["evidence"];
        let tone = match text(&edge["verdict"]) {
            "allow" => "good",
            "audit" => "doubtful",
            _ => "bad",
        };
        let (rule, detail) = (text(&traffic["rule"]), text(&traffic["detail"]));
        let why = [detail, rule, text(&evidence["reason"])];
        writeln!(
            out,
            "<tr><td>{}<small>{}</small></td><td>{}<small>{}</small></td><td>{}</td><td class=\"{tone}\">{}</td><td>{}</td>\
             <td>{}<small>{}</small></td><td>{}</td></tr>",
            Safe(text(&edge["who"])),
            Safe(text(&evidence["caller"])),
            Safe(text(&edge["whom"])),
            Safe(text(&evidence["called"])),
            edge["port"].as_u64().unwrap_or_default(),
            Safe(verdict(text(&edge["verdict"]))),
            traffic["connections"].as_u64().unwrap_or_default(),
            transport(text(&edge["tls"]), tone == "bad"),
            Safe(text(&evidence["agreed"])),
            Safe(why.into_iter().find(|why| !why.is_empty()).unwrap_or_default()),
        )?;
    }
    writeln!(out, "</tbody>\n</table>")?;
    match view["left_out"].as_u64() {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(
            out,
            "<p class=\"faint\">and {more} more: <code>ferrule edges</code></p>"
        ),
    }
}

fn verdict(word: &str) -> &str {
    match word {
        "allow" => "allowed",
        "deny" => "denied",
        "audit" => "allowed, on trial",
        other => other,
    }
}

fn transport(tls: &str, is_stopped: bool) -> &'static str {
    match (tls, is_stopped) {
        ("mutual", _) => "mutual TLS",
        ("local", _) => "within the workload",
        ("plaintext", true) => "in clear, not let through",
        ("plaintext", false) => "in clear",
        _ => "none",
    }
}

/// Who is who: the identities, each with the certificate that was last seen of it.
fn members(out: &mut String, view: &Value) -> fmt::Result {
    writeln!(
        out,
        "<h2>Who is who</h2>\n<table>\n<thead><tr><th>workload</th><th>copies</th><th>SPIFFE ID in its certificate</th>\
         <th>serial of the last certificate that was seen</th></tr></thead>\n<tbody>"
    )?;
    for member in rows(&view["members"]) {
        let shown = rows(&view["edges"])
            .map(|row| &row["traffic"]["evidence"])
            .filter(|evidence| evidence["caller"] == member["identity"])
            .map(|evidence| text(&evidence["serial"]))
            .find(|serial| !serial.is_empty());
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td><code>{}</code></td><td><code>{}</code></td></tr>",
            Safe(text(&member["name"])),
            member["copies"].as_u64().unwrap_or_default(),
            Safe(text(&member["identity"])),
            Safe(shown.unwrap_or("calls nobody")),
        )?;
    }
    writeln!(out, "</tbody>\n</table>")
}

/// What the intruder tried, as it told.
fn intruder(out: &mut String, attempts: &[Value]) -> fmt::Result {
    writeln!(
        out,
        "<h2>What the intruder tells</h2>\n<p>It may call this page, as everybody. The rest it tries too:</p>\n<table>\n\
         <thead><tr><th>target</th><th>got through</th><th>times</th><th>what it saw</th></tr></thead>\n<tbody>"
    )?;
    for attempt in attempts {
        let (tone, word) = if attempt["got_through"] == true {
            ("bad", "yes")
        } else {
            ("good", "no")
        };
        writeln!(
            out,
            "<tr><td><code>{}</code></td><td class=\"{tone}\">{word}</td><td>{}</td><td class=\"faint\">{}</td></tr>",
            Safe(text(&attempt["target"])),
            attempt["count"].as_u64().unwrap_or_default(),
            Safe(text(&attempt["outcome"])),
        )?;
    }
    writeln!(out, "</tbody>\n</table>")
}

/// What there is to buy.
fn shelf(out: &mut String, goods: &Value) -> fmt::Result {
    writeln!(out, "<h2>The goods</h2>\n<table>\n<tbody>")?;
    for item in rows(&goods["items"]) {
        let (name, left) = (text(&item["name"]), item["left"].as_u64().unwrap_or_default());
        let off = if left == 0 { " disabled" } else { "" };
        writeln!(
            out,
            "<tr><td>{}</td><td>{left} left</td><td><form method=\"post\" action=\"/buy\"><button name=\"item\" \
             value=\"{}\"{off}>buy</button></form></td></tr>",
            Safe(name),
            Safe(name),
        )?;
    }
    writeln!(out, "</tbody>\n</table>")
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Text that stands in HTML, or in a quoted attribute, as nothing but itself.
struct Safe<'t>(&'t str);

impl Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['&', '<', '>', '"', '\'']) {
            let special = match part.as_bytes().last() {
                Some(b'&') => "&amp;",
                Some(b'<') => "&lt;",
                Some(b'>') => "&gt;",
                Some(b'"') => "&quot;",
                Some(b'\'') => "&#39;",
                _ => {
                    f.write_str(part)?;
                    continue;
                }
            };
            // Each of these is one byte long.
            f.write_str(part.get(..part.len() - 1).unwrap_or_default())?;
            f.write_str(special)?;
        }
        Ok(())
    }
}

const STYLE: &str = include_str!("page.css");

/// Seconds until the page asks for itself anew.
const REFRESH: u32 = 3;

#[cfg(test)]
mod tests;
