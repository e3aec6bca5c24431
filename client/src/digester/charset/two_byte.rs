//! Tables of characters of two bytes; `tables/generate.py` tells their layout.

/// A table, or what differs in it from another of the same extent.
#[derive(Debug)]
pub(super) struct Table {
    data: &'static [u8],
    base: Option<&'static Table>,
}

/// A character, or two: the second is 0 if there is none.
pub(super) type Characters = [u32; 2];

/// Four bounds, the number of changes, the number of extras.
const HEADER_BYTES: usize = 8;

const EXTRA_BYTES: usize = 8;

const CHANGE_BYTES: usize = 4;

/// From here on values are numbers of extras, and not code points.
const FIRST_EXTRA: u16 = 0xD800;
const LAST_EXTRA: u16 = 0xDFFF;

impl Table {
    const fn new(data: &'static [u8]) -> Self {
        Self { data, base: None }
    }

    const fn based_on(base: &'static Table, data: &'static [u8]) -> Self {
        Self {
            data,
            base: Some(base),
        }
    }

    /// What these two bytes stand for.
    pub(super) fn find(&self, first: u8, second: u8) -> Option<Characters> {
        let [low, high, left, right, ..] = *self.data else {
            return None;
        };
        if !(low..=high).contains(&first) || !(left..=right).contains(&second) {
            return None;
        }
        let width = usize::from(right - left) + 1;
        let place = usize::from(first - low) * width + usize::from(second - left);
        match self.value(place) {
            0 => None,
            extra @ FIRST_EXTRA..=LAST_EXTRA => Some(self.extra(extra - FIRST_EXTRA)),
            code_point => Some([code_point.into(), 0]),
        }
    }

    /// Whether these two bytes stand for something in the table it is based on, and not in it.
    pub(super) fn has_lost(&self, first: u8, second: u8) -> bool {
        let based = self.base.and_then(|base| base.find(first, second));
        based.is_some() && self.find(first, second).is_none()
    }

    fn value(&self, place: usize) -> u16 {
        match self.base {
            None => self.number(self.after_extras() + 2 * place),
            Some(base) => self.change(place).unwrap_or_else(|| base.value(place)),
        }
    }

    fn change(&self, place: usize) -> Option<u16> {
        let changes = &self.data[self.after_extras()..];
        let (changes, _) = changes.as_chunks::<CHANGE_BYTES>();
        let found = changes.binary_search_by_key(&place, |change| {
            usize::from(u16::from_le_bytes([change[0], change[1]]))
        });
        let change = changes[found.ok()?];
        Some(u16::from_le_bytes([change[2], change[3]]))
    }

    fn extra(&self, number: u16) -> Characters {
        let extras = &self.data[HEADER_BYTES..];
        let (numbers, _) = extras[EXTRA_BYTES * usize::from(number)..].as_chunks();
        [numbers[0], numbers[1]].map(u32::from_le_bytes)
    }

    fn after_extras(&self) -> usize {
        HEADER_BYTES + EXTRA_BYTES * usize::from(self.number(6))
    }

    fn number(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.data[at], self.data[at + 1]])
    }
}

macro_rules! table {
    ($file:literal) => {
        Table::new(include_bytes!(concat!("../tables/", $file, ".bin")))
    };
    ($file:literal, $base:ident) => {
        Table::based_on(&$base, include_bytes!(concat!("../tables/", $file, ".bin")))
    };
}

pub(super) static BIG5: Table = table!("big5");
pub(super) static BIG5_HKSCS: Table = table!("big5hkscs");
pub(super) static CP932: Table = table!("cp932");
pub(super) static CP949: Table = table!("cp949");
pub(super) static CP950: Table = table!("cp950", BIG5);
pub(super) static EUC_JIS_2004: Table = table!("euc_jis_2004");
pub(super) static EUC_JISX0213: Table = table!("euc_jisx0213", EUC_JIS_2004);
pub(super) static EUC_JP: Table = table!("euc_jp");
pub(super) static EUC_KR: Table = table!("euc_kr");
pub(super) static GB18030: Table = table!("gb18030");
pub(super) static GB2312: Table = table!("gb2312");
pub(super) static GBK: Table = table!("gbk", GB18030);
pub(super) static JISX0212: Table = table!("jisx0212");
pub(super) static JISX0213_PLANE_2: Table = table!("jisx0213_2");
pub(super) static JOHAB: Table = table!("johab");
pub(super) static SHIFT_JIS: Table = table!("shift_jis", CP932);
pub(super) static SHIFT_JIS_2004: Table = table!("shift_jis_2004");
pub(super) static SHIFT_JISX0213: Table = table!("shift_jisx0213", SHIFT_JIS_2004);
