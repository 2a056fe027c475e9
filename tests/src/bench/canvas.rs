//! A drawing of boxes, lines and words, which becomes an SVG or a PNG. Both have the same measures, so that a viewer without the
//! one sees the same in the other; the PNG has its letters with it (DejaVu Sans).

use std::fmt::Write as _;

use ab_glyph::{Font as _, FontRef, PxScale, ScaleFont as _, point};
use anyhow::{Context as _, Result};

/// Pixels of the PNG for each unit of the drawing.
const SCALE: f32 = 2.0;

/// Red, green, blue.
pub type Colour = [u8; 3];

/// Where words stand, seen from the given place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// They begin there.
    Start,
    /// Their middle is there.
    Middle,
    /// They end there.
    End,
}

/// How words are set.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Height of the letters.
    pub size: f32,
    /// Whether they are bold.
    pub bold: bool,
    /// Their colour.
    pub colour: Colour,
    /// Where they stand.
    pub anchor: Anchor,
}

/// A place or a measure: from the left, from the top.
type Pair = (f32, f32);

#[derive(Debug, Clone)]
enum Item {
    Box(Pair, Pair, Colour),
    Words(Pair, String, Style),
}

/// The drawing, on white.
#[derive(Debug, Clone)]
pub struct Canvas {
    size: Pair,
    items: Vec<Item>,
}

impl Canvas {
    /// An empty one.
    pub const fn new(width: f32, height: f32) -> Self {
        Self {
            size: (width, height),
            items: Vec::new(),
        }
    }

    /// A box, by its upper left corner.
    pub fn rectangle(&mut self, at: Pair, size: Pair, colour: Colour) {
        self.items.push(Item::Box(at, size, colour));
    }

    /// A level line.
    pub fn level(&mut self, from: Pair, length: f32, thickness: f32, colour: Colour) {
        self.rectangle(
            (from.0, from.1 - thickness / 2.0),
            (length, thickness),
            colour,
        );
    }

    /// A dashed line downwards.
    pub fn dashes(&mut self, from: Pair, length: f32, colour: Colour) {
        let mut done = 0.0;
        while done < length {
            let dash = 4.0_f32.min(length - done);
            self.rectangle((from.0 - 0.75, from.1 + done), (1.5, dash), colour);
            done += 7.0;
        }
    }

    /// Words, by the line that they stand on.
    pub fn words(&mut self, at: Pair, words: &str, style: Style) {
        self.items.push(Item::Words(at, words.to_owned(), style));
    }

    /// As SVG.
    pub fn svg(&self) -> String {
        let (width, height) = self.size;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             font-family=\"DejaVu Sans, Verdana, sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        let hex = |[r, g, b]: Colour| format!("#{r:02x}{g:02x}{b:02x}");
        for item in &self.items {
            let _ = match item {
                Item::Box((x, y), (width, height), colour) => writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{}\"/>",
                    hex(*colour)
                ),
                Item::Words((x, y), words, style) => {
                    let anchor = match style.anchor {
                        Anchor::Start => "start",
                        Anchor::Middle => "middle",
                        Anchor::End => "end",
                    };
                    let weight = if style.bold {
                        " font-weight=\"bold\""
                    } else {
                        ""
                    };
                    writeln!(
                        svg,
                        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{:.0}\" fill=\"{}\" text-anchor=\"{anchor}\"{weight}>{}</text>",
                        style.size,
                        hex(style.colour),
                        words.replace('&', "&amp;").replace('<', "&lt;")
                    )
                }
            };
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// As PNG.
    ///
    /// # Errors
    ///
    /// None, unless it is too large to be written.
    pub fn png(&self) -> Result<Vec<u8>> {
        let mut pixels = Pixels::new(self.size);
        let fonts = [dejavu::sans::regular(), dejavu::sans::bold()];
        let [regular, bold] = fonts.map(FontRef::try_from_slice);
        let (regular, bold) = (regular?, bold?);
        for item in &self.items {
            match item {
                Item::Box(at, size, colour) => pixels.fill(*at, *size, *colour),
                Item::Words(at, words, style) => {
                    let font = if style.bold { &bold } else { &regular };
                    pixels.write(*at, words, *style, font);
                }
            }
        }
        pixels.encode()
    }
}

struct Pixels {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "places on a drawing of some thousand pixels; what lies outside is cut off"
)]
impl Pixels {
    fn new(size: Pair) -> Self {
        let (width, height) = ((size.0 * SCALE) as usize, (size.1 * SCALE) as usize);
        Self {
            width,
            height,
            bytes: vec![255; width * height * 3],
        }
    }

    /// Lays so much of a colour over a pixel.
    fn mix(&mut self, x: usize, y: usize, colour: Colour, share: f32) {
        if x >= self.width || y >= self.height {
            return;
        }
        let place = (y * self.width + x) * 3;
        for (byte, new) in self.bytes[place..place + 3].iter_mut().zip(colour) {
            let old = f32::from(*byte);
            *byte = (old + (f32::from(new) - old) * share.clamp(0.0, 1.0)).round() as u8;
        }
    }

    /// Edges that lie within a pixel cover a part of it.
    fn fill(&mut self, at: Pair, size: Pair, colour: Colour) {
        let (left, top) = ((at.0 * SCALE).max(0.0), (at.1 * SCALE).max(0.0));
        let (right, bottom) = ((at.0 + size.0) * SCALE, (at.1 + size.1) * SCALE);
        let covered = |from: f32, to: f32, cell: usize| {
            (to.min(cell as f32 + 1.0) - from.max(cell as f32)).max(0.0)
        };
        for y in top as usize..(bottom.ceil().max(0.0) as usize).min(self.height) {
            for x in left as usize..(right.ceil().max(0.0) as usize).min(self.width) {
                self.mix(
                    x,
                    y,
                    colour,
                    covered(left, right, x) * covered(top, bottom, y),
                );
            }
        }
    }

    fn write(&mut self, at: Pair, words: &str, style: Style, font: &FontRef<'_>) {
        // SVG counts the size of letters by their square, this crate from the highest to the lowest.
        let height = font.height_unscaled() / font.units_per_em().unwrap_or(1.0);
        let scale = PxScale::from(style.size * SCALE * height);
        let scaled = font.as_scaled(scale);
        let advance = |letter| scaled.h_advance(font.glyph_id(letter));
        let length: f32 = words.chars().map(advance).sum();
        let mut x = at.0 * SCALE
            - match style.anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => length / 2.0,
                Anchor::End => length,
            };
        for letter in words.chars() {
            let place = point(x, at.1 * SCALE);
            let glyph = font.glyph_id(letter).with_scale_and_position(scale, place);
            x += advance(letter);
            let Some(outline) = font.outline_glyph(glyph) else {
                continue;
            };
            let bounds = outline.px_bounds();
            outline.draw(|dx, dy, share| {
                let (x, y) = (bounds.min.x + dx as f32, bounds.min.y + dy as f32);
                if x >= 0.0 && y >= 0.0 {
                    self.mix(x as usize, y as usize, style.colour, share);
                }
            });
        }
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let mut file = Vec::new();
        let (width, height) = (u32::try_from(self.width)?, u32::try_from(self.height)?);
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&self.bytes))
            .context("cannot make a PNG")?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_pictures_show_the_same() {
        let mut canvas = Canvas::new(60.0, 20.0);
        canvas.rectangle((10.0, 5.0), (5.5, 10.0), [255, 0, 0]);
        let style = Style {
            size: 12.0,
            bold: false,
            colour: [0, 0, 0],
            anchor: Anchor::End,
        };
        canvas.words((58.0, 15.0), "1 < 2", style);
        let svg = canvas.svg();
        assert!(svg.contains("x=\"10.0\" y=\"5.0\" width=\"5.5\""), "{svg}");
        assert!(svg.contains("1 &lt; 2"), "{svg}");
        let file = canvas.png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&file))
            .read_info()
            .unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut bytes).unwrap();
        let at = |x: usize, y: usize| &bytes[(y * 120 + x) * 3..][..3];
        assert_eq!(at(20, 10), [255, 0, 0], "the box");
        assert_eq!(at(30, 10), [255, 0, 0], "its last whole pixel");
        assert_eq!(at(31, 10), [255, 255, 255], "beside it");
        let dark = |from: usize, to: usize| {
            (from..to)
                .flat_map(|x| (0..40).map(move |y| (x, y)))
                .filter(|(x, y)| at(*x, *y)[1] < 100)
                .filter(|(x, y)| at(*x, *y)[0] < 100)
                .count()
        };
        assert!(dark(60, 117) > 30, "letters end at the given place");
        assert_eq!(dark(118, 120), 0, "and not behind it");
    }
}
