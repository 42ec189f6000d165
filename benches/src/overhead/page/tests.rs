//! The page stands alone, and says what the report says.

use super::*;
use crate::overhead::growth::found;
use crate::overhead::growth::found::tests::rows;
use crate::overhead::report::tests::report;

#[test]
fn nothing_comes_from_elsewhere() {
    let page = render(&report());
    for foreign in ["<script", "http:", "https:", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
}

#[test]
fn every_subject_has_a_bar_and_ours_stands_out() {
    let page = render(&report());
    assert_eq!(page.matches("<rect class=\"bar\"").count(), 4);
    assert_eq!(page.matches("<rect class=\"bar own\"").count(), 1);
    // Two of three rounds differ, so each has a range.
    assert_eq!(page.matches("class=\"range\"").count(), 5);
    assert!(page.contains("6.00 (6.00–24.0)"));
    assert!(page.contains("less is better"));
}

#[test]
fn growth_is_drawn_as_lines() {
    let page = render(&grown());
    // Each of the four figures has a line of ours but for what only others have; each line has its ranges.
    assert_eq!(page.matches("<figcaption>").count(), 4);
    assert!(page.contains("class=\"line own\"") && page.contains(">1000</text>"));
    assert!(page.contains("envoy: <b>2.00 (2.00 to 2.00) ×</b>"), "{page}");
    assert!(page.contains("<b>8.00 (8.00 to 8.00) KiB</b>"), "{page}");
    assert!(!render(&report()).contains("class=\"line"));
}

fn grown() -> Report {
    let mut report = report();
    report.results = rows();
    report.growth = found::grown(&report.results);
    report.settings.growth_bytes = Some(512_000_000);
    report
}

#[test]
fn every_tag_is_closed_and_text_is_text() {
    for page in [render(&report()), render(&grown())] {
        every_tag_is_closed(&page);
    }
}

fn every_tag_is_closed(page: &str) {
    assert!(page.contains("no more &lt;threads&gt;"));
    for tag in [
        "main", "section", "ul", "li", "h2", "h3", "div", "figure", "svg", "text", "dl", "dt", "dd",
    ] {
        let open = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn values_of_nothing_have_no_length() {
    let nothing = plot::Bar {
        title: "nothing",
        name: "nothing",
        spread: ferrule_load::spread::Spread::default(),
    };
    assert!(plot::bars(&[nothing], "none").contains("width=\"0.0\""));
}
