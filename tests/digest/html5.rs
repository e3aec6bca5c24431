//! HTML that newer Pythons read in a way of their own.

use super::html;
use super::random::Random;

const PIECES: [&str; 40] = [
    "<xmp>",
    "<xmp>x &amp; <b></xmp >",
    "</xmp/x>",
    "<iframe>",
    "<iframe>&lt;x</iframe\t>",
    "</iframe",
    "<noembed>",
    "<noembed>x</noembed>y",
    "<noframes/>",
    "<NoFrames>&amp;</noFrames>",
    "</noframes\u{b}>",
    "<plaintext>",
    "<plaintext/>",
    "</plaintext>",
    "<textarea>",
    "<textarea>&lt;b <i></textarea>",
    "</textarea \"x>",
    "<title>",
    "<title>&amp; <b>x</title>",
    "<title a='b'>&am",
    "</title\0>",
    "</title x='>'>",
    "<script>x</script x='>'>y",
    "<script>x</scripty></script/>",
    "</script\u{a0}>",
    "<style></ style></STYLE\u{c}>",
    "<!-- x --!>",
    "<!--!>",
    "<!---->",
    "<!--->",
    "<!---!>",
    "<!----!x-->",
    "<![CDATA[x ]] > ]]>",
    "<![cdata[x]]>",
    "<![if x y]>",
    "</a b='>'>",
    "</a b='",
    "</a b=>",
    "</\u{e9}>",
    "<a\0b\u{b}c d\u{a0}e=f>",
];

/// Some of that, among other damage.
pub(crate) fn fragment(random: &mut Random) -> Vec<u8> {
    let mut fragment = Vec::new();
    for _ in 0..random.below(6) {
        fragment.extend_from_slice(random.pick(&PIECES).as_bytes());
        if random.chance(50) {
            fragment.extend(html::fragment(random));
        }
    }
    fragment
}
