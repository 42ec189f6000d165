//! Draws a report as one page that needs nothing from elsewhere.

mod lines;
mod plot;

use std::fmt::Write as _;

use super::growth::table;
use super::measure::{Better, Group, OPEN, PEAK};
use super::report::{Report, Row};
use super::table::{head, heading};

/// The page, as HTML.
pub(crate) fn render(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>What the way through Ferrule costs</title><style>{STYLE}</style></head><body><main>\
         <h1>What the way through Ferrule costs</h1>"
    );
    for line in head(report).lines() {
        // Writing to a string does not fail.
        let _ = write!(page, "<p>{}</p>", escape(line));
    }
    page.push_str(&headlines(report));
    page.push_str(&growth(report));
    for group in Group::ALL.into_iter().filter(|group| *group != Group::Growth) {
        let rows: Vec<&Row> = report.results.iter().filter(|row| row.group == group).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = write!(page, "<h2>{}</h2>", escape(group.title()));
        for rows in rows.chunk_by(|a, b| a.measure == b.measure && a.congestion == b.congestion) {
            let _ = write!(
                page,
                "<h3>{}</h3><div class=\"plots\">",
                escape(&heading(rows[0]))
            );
            for row in rows {
                page.push_str(&figure(report, row));
            }
            page.push_str("</div>");
        }
    }
    page.push_str(&about(report));
    page.push_str("</main></body></html>\n");
    page
}

/// One sentence for each load about its CPU, or else its first figure: what most people came for.
fn headlines(report: &Report) -> String {
    let mut list = String::new();
    for row in &report.results {
        let Some(beside) = row
            .beside_best
            .as_ref()
            .filter(|_| row.figure == "cpu" || row.figure == "throughput")
        else {
            continue;
        };
        let _ = write!(
            list,
            "<li>{}: <b>{:.2} ×</b> the {} of {} ({:.2} to {:.2})</li>",
            escape(&heading(row)),
            beside.ratio.median,
            escape(row.unit),
            escape(title(report, beside.subject)),
            beside.ratio.min,
            beside.ratio.max,
        );
    }
    if list.is_empty() {
        return list;
    }
    format!(
        "<section class=\"headlines\"><h2>Ferrule beside the best of those that do mutual TLS</h2><ul>{list}</ul></section>"
    )
}

/// How everybody grows with the number of connections; empty where that was not measured.
fn growth(report: &Report) -> String {
    let mut page = String::new();
    for congestion in table::controls(report) {
        let title = format!("{}, {congestion}", Group::Growth.title());
        // Writing to a string does not fail.
        let _ = write!(page, "<h2>{}</h2><div class=\"plots\">", escape(&title));
        for figure in table::FIGURES {
            let curves: Vec<lines::Curve<'_>> = report
                .subjects
                .iter()
                .map(|subject| lines::Curve {
                    title: subject.title,
                    name: subject.name,
                    points: table::steps(report, figure, congestion, subject.name),
                })
                .filter(|curve| !curve.points.is_empty())
                .collect();
            let is_even = figure != OPEN && figure != PEAK;
            let label = table::heading(report, figure, congestion);
            let _ = write!(
                page,
                "<figure><figcaption>{}</figcaption>{}</figure>",
                escape(figure.unit),
                lines::lines(&curves, &label, is_even),
            );
        }
        page.push_str("</div><ul>");
        for grown in report
            .growth
            .iter()
            .filter(|grown| grown.congestion == congestion)
        {
            if let (Some(cpu), Some(open)) = (grown.cpu.last(), &grown.open) {
                let _ = write!(
                    page,
                    "<li>{}: <b>{} ×</b> the CPU time of one connection for a GB over {}, and <b>{} KiB</b> for each that \
                     is open</li>",
                    escape(self::title(report, grown.subject)),
                    escape(&cpu.ratio.to_string()),
                    cpu.connections,
                    escape(&open.kibibytes_each.to_string()),
                );
            }
        }
        page.push_str("</ul>");
    }
    page
}

fn figure(report: &Report, row: &Row) -> String {
    let bars: Vec<plot::Bar<'_>> = row
        .subjects
        .iter()
        .map(|found| plot::Bar {
            title: title(report, found.subject),
            name: found.subject,
            spread: found.spread,
        })
        .collect();
    let better = match row.better {
        Better::More => "more is better",
        Better::Less => "less is better",
    };
    format!(
        "<figure><figcaption>{} <span>{better}</span></figcaption>{}</figure>",
        escape(row.unit),
        plot::bars(&bars, &format!("{}, {}", heading(row), row.unit)),
    )
}

fn about(report: &Report) -> String {
    let mut text = String::from("<h2>What was measured</h2><dl>");
    for subject in &report.subjects {
        let version = subject.version.as_deref().unwrap_or_default();
        let (title, about) = (escape(subject.title), escape(&subject.about));
        let _ = write!(text, "<dt>{title}</dt><dd>{about}. {}</dd>", escape(version));
    }
    for absent in &report.absent {
        let (name, why) = (escape(&absent.name), escape(&absent.why));
        let _ = write!(text, "<dt>{name}</dt><dd>not measured: {why}</dd>");
    }
    for fault in &report.faults {
        let (measure, why) = (escape(&fault.measure), escape(&fault.why));
        let what = if fault.is_limit {
            "too much was"
        } else {
            "failed at"
        };
        let _ = write!(text, "<dt>{}</dt><dd>{what} {measure}: {why}</dd>", fault.subject);
    }
    text.push_str("</dl>");
    text
}

fn title<'a>(report: &'a Report, name: &'a str) -> &'a str {
    let subject = report.subjects.iter().find(|subject| subject.name == name);
    subject.map_or(name, |subject| subject.title)
}

/// `text` as it may stand between tags and in attributes.
pub(super) fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
        escaped
    })
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2733;--faint:#667;--bar:#a9b8c9;--own:#c2571a;--line:#334;--ground:#fff}\
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--faint:#99a;--bar:#5a6b80;--own:#e07b3c;--line:#ccd;--ground:#161b22}}\
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.45 system-ui,sans-serif}\
main{max-width:1100px;margin:0 auto;padding:24px}\
h1{font-size:26px;margin:0 0 12px}h2{font-size:20px;margin:34px 0 8px}h3{font-size:15px;margin:20px 0 4px}\
p{margin:2px 0;color:var(--faint)}\
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:14px 28px}\
figure{margin:0}figcaption{font-weight:600;font-size:13px}figcaption span{font-weight:400;color:var(--faint)}\
svg{width:100%;height:auto;display:block}svg text{fill:var(--ink);font:11px system-ui,sans-serif}\
.bar{fill:var(--bar)}.bar.own{fill:var(--own)}.range{stroke:var(--line);stroke-width:1.2;fill:none}\
.line{stroke:var(--faint);stroke-width:1.4;fill:none}.line.own{stroke:var(--own);stroke-width:2.4}\
.headlines ul{padding-left:20px;margin:6px 0}dt{font-weight:600;margin-top:8px}dd{margin:0;color:var(--faint)}";

#[cfg(test)]
mod tests;
