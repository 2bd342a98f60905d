//! When two texts count as the same: how people type, in all scripts.
//!
//! [`folded`] is for whole texts (`exact`), [`words`] for parts of them (`keywords`). Letter case, white space,
//! compatibility forms (full width, half width, ligatures, composed or not), curly quotes and invisible characters make
//! no difference; accents and vowel signs do.

use std::sync::LazyLock;

use icu_normalizer::ComposingNormalizerBorrowed;
use regex::Regex;

/// Ends of sentences, which people leave out at will; the full-width ones are plain after normalisation.
const MARKS: &[char] = &[
    '.', '!', '?', ',', ';', ':', '¿', '¡', // Latin, Greek, Cyrillic, and full-width CJK
    '。', '、', '؟', '،', '؛', '۔', // CJK, Arabic
    '।', '॥', '։', '׃', '᠃', '።', '፧', '၊', '။',
    '។', // Indic, Armenian, Hebrew, Mongolian, Ethiopic, Burmese, Khmer
];

/// The form in which two whole texts are compared: [`folded_signs`], and without [`MARKS`] at either end, unless nothing
/// else is left of it.
pub fn folded(text: &str) -> String {
    let signs = folded_signs(text);
    let is_edge = |sign: char| sign == ' ' || MARKS.contains(&sign);
    let trimmed = signs.trim_matches(is_edge);
    if trimmed.is_empty() { signs } else { trimmed.to_owned() }
}

/// The form in which texts are taken apart: one case, one normal form (NFKC), single spaces, straight quotes, nothing
/// invisible.
pub(super) fn folded_signs(text: &str) -> String {
    let normalizer = ComposingNormalizerBorrowed::new_nfkc();
    let visible: String = text.chars().filter_map(plain).collect();
    let normal = normalizer.normalize(&visible);
    // There and back is nearly full case folding: ß becomes ss, both sigmas one, Turkish ı and i one.
    let cased: String = normal.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
    // Again, since new letters and quotes may have come out of that (ŉ is 'n).
    let normal: String = normalizer.normalize(&cased).chars().filter_map(plain).collect();
    normal.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Straight quotes for curly ones, and nothing for what nobody sees.
fn plain(sign: char) -> Option<char> {
    match sign {
        '‘' | '’' | '‛' | 'ʼ' | '´' => Some('\''),
        '“' | '”' | '„' | '‟' => Some('"'),
        // A dotted capital İ would otherwise keep its dot as a mark of its own.
        'İ' => Some('i'),
        // Soft hyphen, zero width space and joiners, directions, variation selectors, byte order mark.
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' => None,
        '\u{fe00}'..='\u{fe0f}' | '\u{feff}' => None,
        other => Some(other),
    }
}

/// Words where a script has them, single letters where words are written without spaces, and any other sign by itself.
static WORD: LazyLock<Regex> = LazyLock::new(|| {
    const JOINED: &str = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}";
    let spaced = format!(r"[\w--[{JOINED}]]");
    #[expect(clippy::expect_used, reason = "the pattern is a constant")]
    Regex::new(&format!(r"[{JOINED}]\p{{M}}*|{spaced}+(?:'{spaced}+)*|\S")).expect("the word pattern is valid")
});

/// The words of a text that went through [`folded_signs`].
pub(super) fn words(signs: &str) -> impl Iterator<Item = &str> {
    WORD.find_iter(signs).map(|word| word.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_people_mean_to_be_the_same_fold_to_the_same() {
        for (left, right) in [
            ("Hello!", "hello"),
            ("  What \t is\nthis ?!", "what is this"),
            ("I’m fine…", "i'm FINE"),
            ("STRASSE", "straße"),
            ("ΟΔΟΣ", "οδος"),
            ("İstanbul", "istanbul"),
            ("ı", "I"),
            ("e\u{301}te\u{301}", "Été"),
            ("¿Qué tal?", "qué tal"),
            ("你好！", "你好"),
            ("Ｈｅｌｌｏ　ｗｏｒｌｄ", "hello world"),
            ("ﾆﾎﾝ", "ニホン"),
            ("שלום?", "שלום"),
            ("สวัสดี", "สวัสดี "),
            ("می\u{200c}روم؟", "میروم"),
            ("नमस्ते।", "नमस्ते"),
            ("\u{feff}hi\u{200b}", "hi"),
            ("ПРИВЕТ.", "привет"),
            ("한국어", "\u{1112}\u{1161}\u{11ab}국어"),
        ] {
            assert_eq!(folded(left), folded(right), "{left:?} {right:?}");
        }
    }

    #[test]
    fn texts_that_mean_something_else_stay_apart() {
        for (left, right) in [
            ("ete", "été"),
            ("C++", "C"),
            ("C#", "C"),
            ("?", "!"),
            ("ไป", "ไป่"),
            ("कि", "की"),
            ("3.5", "35"),
            ("a b", "ab"),
        ] {
            assert_ne!(folded(left), folded(right), "{left:?} {right:?}");
        }
    }

    #[test]
    fn only_marks_are_a_text_of_their_own() {
        assert_eq!(folded(" ?! "), "?!");
        assert_eq!(folded(" \u{200b} "), "");
    }

    #[test]
    fn folding_twice_changes_nothing() {
        for text in ["Hello!!", "ǅ ŉ ΐ ﬁ", "İI ıi", "¿?", "…a…", "ß", "´"] {
            assert_eq!(folded(&folded(text)), folded(text), "{text:?}");
        }
    }

    #[test]
    fn words_are_words_where_the_script_has_them() {
        let all = |text: &str| words(&folded_signs(text)).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(all("Don’t do C++!"), ["don't", "do", "c", "+", "+", "!"]);
        assert_eq!(all("今日は天気"), ["今", "日", "は", "天", "気"]);
        assert_eq!(all("ที่นี่"), ["ที่", "นี่"]);
        assert_eq!(all("नमस्ते दुनिया"), ["नमस्ते", "दुनिया"]);
        assert_eq!(all("wi-fi 5G信号"), ["wi", "-", "fi", "5g", "信", "号"]);
        assert!(all(" ").is_empty());
    }
}
