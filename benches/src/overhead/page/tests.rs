//! The page stands alone, and says what the report says.

use super::*;
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
fn every_tag_is_closed_and_text_is_text() {
    let page = render(&report());
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
