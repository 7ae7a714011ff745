"""Drawn pictures whose continuation is known: each is the middle of a larger scene, of which the rest is the truth."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFont
from scene import HEIGHT, LEFT, TOP, WIDTH, WORDS, Pixels, Scene, blend, grid, rounded

# Plain and smooth


def uniform() -> Pixels:
    return Scene((38, 92, 140)).pixels()


def uniform_with_grain() -> Pixels:
    return rounded(blend(grid()[0] * 0, (196, 188, 172), (0, 0, 0)), grain=4)


def vertical_gradient() -> Pixels:
    return rounded(blend((grid()[1] + TOP) / (HEIGHT + 2 * TOP), (20, 40, 90), (250, 190, 140)))


def slanting_gradient() -> Pixels:
    x, y = grid()
    return rounded(blend((0.6 * x + 0.9 * y + 170) / 900, (240, 240, 250), (60, 130, 120)))


def radial_gradient() -> Pixels:
    x, y = grid()
    return rounded(blend(np.hypot(x - WIDTH / 2, y - HEIGHT / 2) / 480, (255, 244, 214), (150, 70, 60)))


def radial_off_centre() -> Pixels:
    x, y = grid()
    return rounded(blend(np.hypot(x - 130, y - 110) / 640, (120, 200, 250), (14, 20, 60)), grain=1)


def vignette() -> Pixels:
    x, y = grid()
    far = ((x - WIDTH / 2) / 520) ** 2 + ((y - HEIGHT / 2) / 420) ** 2
    return rounded(blend(far, (176, 170, 160), (40, 38, 44)), grain=2.5)


def defocused() -> Pixels:
    rng = np.random.default_rng(21)
    soft = Image.fromarray(rng.integers(70, 150, (5, 7, 3)).astype(np.uint8))
    values = np.asarray(soft.resize((WIDTH + 2 * LEFT, HEIGHT + 2 * TOP), Image.Resampling.BICUBIC)).astype(float)
    scene = Scene()
    scene.disc(256, 200, 90, (235, 120, 60))
    flower = scene.pixels()
    return rounded(np.where((flower == 255).all(-1, keepdims=True), values, flower), grain=2)


# Objects on a plain ground


def _bottle(scene: Scene, x: float, floor: float) -> None:
    scene.box(x - 48, floor - 190, x + 48, floor, (30, 110, 90), 18)
    scene.box(x - 18, floor - 250, x + 18, floor - 180, (24, 86, 72), 6)
    scene.box(x - 22, floor - 268, x + 22, floor - 240, (200, 170, 80), 4)
    scene.box(x - 48, floor - 140, x + 48, floor - 60, (246, 240, 226))
    scene.text(x - 36, floor - 115, "GARDEN", (40, 60, 50), 18)


def product_on_white() -> Pixels:
    scene = Scene()
    _bottle(scene, 256, 330)
    return scene.pixels()


def product_with_shadow() -> Pixels:
    scene = Scene()
    _bottle(scene, 240, 320)
    x, y = grid()
    shadow = np.exp(-(((x - 275) / 110) ** 2) - ((y - 322) / 14) ** 2) * 0.55
    return rounded(scene.pixels() * (1 - shadow[..., None] * (scene.pixels() == 255).all(-1, keepdims=True)), grain=1)


def product_on_a_table() -> Pixels:
    scene = Scene((232, 228, 222))
    scene.box(-LEFT, 268, WIDTH + LEFT, HEIGHT + TOP, (178, 132, 92))
    _bottle(scene, 300, 330)
    return rounded(scene.pixels().astype(float), grain=2)


def shoe_near_the_border() -> Pixels:
    scene = Scene((250, 250, 250))
    scene.area((190, 40, 50), (12, 300), (20, 220), (150, 210), (240, 130), (330, 120), (350, 240), (380, 300))
    scene.box(10, 298, 392, 326, (240, 240, 235), 10)
    scene.line((250, 250, 250), 5, (180, 190), (230, 215), (205, 165), (258, 200), (240, 140), (290, 180))
    return scene.pixels()


def cut_subject() -> Pixels:
    """A head and shoulders that the lower border cuts, on a studio's grey."""
    x, y = grid()
    values = blend(np.hypot(x - 256, y - 150) / 560, (200, 204, 210), (110, 114, 124))
    scene = Scene((1, 2, 3))
    scene.area((50, 60, 110), (60, 480), (90, 330), (200, 280), (312, 280), (420, 330), (450, 480))
    scene.box(222, 220, 290, 300, (214, 168, 140), 20)
    scene.disc(256, 160, 78, (226, 180, 152))
    scene.disc(256, 128, 80, (70, 44, 30))
    scene.disc(256, 180, 66, (226, 180, 152))
    body = scene.pixels()
    return rounded(np.where((body == (1, 2, 3)).all(-1, keepdims=True), values, body), grain=2)


# Logos, icons, line art


def logo() -> Pixels:
    scene = Scene("white")
    scene.disc(256, 150, 88, (240, 90, 40))
    scene.disc(256, 150, 52, "white")
    scene.area((30, 40, 80), (256, 150), (360, 40), (380, 120))
    scene.text(128, 258, "northlight", (30, 40, 80), 52)
    return scene.pixels()


def logo_to_the_border() -> Pixels:
    scene = Scene((18, 22, 40))
    scene.text(6, 120, "HELIOS", (255, 204, 60), 132)
    scene.box(6, 290, 506, 304, (255, 204, 60))
    return scene.pixels()


def line_art() -> Pixels:
    scene = Scene()
    scene.line("black", 2.5, (60, 330), (60, 180), (180, 90), (300, 180), (300, 330), (60, 330))
    scene.line("black", 2.5, (150, 330), (150, 240), (210, 240), (210, 330))
    scene.disc(420, 90, 40, None, line=3)
    for k in range(8):
        angle = k * np.pi / 4
        ray = (float(np.cos(angle)), float(np.sin(angle)))
        scene.line("black", 2.5, (420 + 52 * ray[0], 90 + 52 * ray[1]), (420 + 76 * ray[0], 90 + 76 * ray[1]))
    scene.line("black", 2.5, (-LEFT, 330), (WIDTH + LEFT, 330))
    scene.line("black", 2.5, (410, 330), (410, 250), (380, 200), (410, 230), (440, 190))
    return scene.pixels()


def pixel_art() -> Pixels:
    rows = (
        "................",
        "................",
        "......####......",
        "....########....",
        "...##########...",
        "...##o####o##...",
        "...##########...",
        "...###oooo###...",
        "....########....",
        "......####......",
        "....########....",
        "GGGGGGGGGGGGGGGG",
    )
    colours = {".": (104, 184, 252), "#": (248, 184, 0), "o": (40, 20, 0), "G": (0, 168, 68)}
    small = np.array([[colours[c] for c in row] for row in rows], np.uint8).repeat(32, 0).repeat(32, 1)
    scene = np.empty((HEIGHT + 2 * TOP, WIDTH + 2 * LEFT, 3), np.uint8)
    scene[:] = colours["."]
    scene[TOP + HEIGHT - 32 :] = colours["G"]
    scene[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = small
    return scene


def _with_alpha(scene: Scene, opaque: Scene) -> Pixels:
    return np.dstack([scene.pixels(), opaque.pixels()[..., 0]])


def icon_with_round_corners() -> Pixels:
    """An icon's square whose four corners are transparent: what lies beyond them is its ground."""
    scene, corners = Scene((64, 84, 220)), Scene("black")
    scene.disc(256, 192, 110, "white")
    scene.area((64, 84, 220), (225, 130), (225, 254), (325, 192))
    corners.box(0, 0, WIDTH, HEIGHT, "white", 80)
    pixels = _with_alpha(scene, corners)
    outside = np.ones(pixels.shape[:2], bool)
    outside[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = False
    pixels[outside, 3] = 255
    return pixels


def cut_out() -> Pixels:
    scene, shape = Scene("black"), Scene("black")
    for one, fill in ((scene, None), (shape, "white")):
        one.disc(256, 180, 120, fill or (240, 200, 60))
        one.box(236, 290, 276, 366, fill or (90, 60, 40), 8)
    return _with_alpha(scene, shape)


# Documents


def page_of_text() -> Pixels:
    scene = Scene()
    scene.text(40, 24, "Report of the harbour board", (20, 20, 20), 24)
    scene.prose(40, 472, 70, 350, 12, (30, 30, 30))
    return scene.pixels()


def two_columns() -> Pixels:
    scene = Scene((250, 246, 236))
    scene.text(24, 12, "The Evening Post", (30, 24, 20), 34)
    scene.box(20, 58, 492, 60, (30, 24, 20))
    scene.prose(20, 246, 70, 376, 10, (50, 40, 34))
    scene.prose(266, 492, 70, 376, 10, (50, 40, 34), at=17)
    return scene.pixels()


def text_cut_by_the_border() -> Pixels:
    scene = Scene()
    scene.prose(-90, 600, -80, 470, 15, (10, 10, 10))
    return scene.pixels()


def scanned_form() -> Pixels:
    x, y = grid()
    scene = Scene((1, 2, 3))
    scene.text(24, 20, "Application", (60, 60, 70), 26)
    for row in range(5):
        scene.text(24, 78 + row * 58, ("Name", "Street", "Town", "Date", "Signature")[row], (70, 70, 80), 12)
        scene.line((90, 90, 100), 1.5, (120, 96 + row * 58), (488, 96 + row * 58))
    ink = scene.pixels()
    paper = blend((x + y) / 1400, (238, 234, 224), (206, 200, 190))
    return rounded(np.where((ink == (1, 2, 3)).all(-1, keepdims=True), paper, ink), grain=2.5)


# Screens


def dashboard() -> Pixels:
    scene = Scene((244, 246, 250))
    scene.box(-LEFT, -TOP, 72, HEIGHT + TOP, (26, 34, 56))
    for k in range(5):
        scene.box(22, 60 + k * 50, 50, 88 + k * 50, (90, 110, 160), 6)
    scene.text(92, 14, "Overview", (26, 34, 56), 20)
    for k, (name, value) in enumerate((("Orders", "1,284"), ("Revenue", "$9,310"), ("Returns", "2.1 %"))):
        scene.box(92 + k * 136, 50, 216 + k * 136, 120, "white", 8)
        scene.text(102 + k * 136, 60, name, (120, 126, 140), 12)
        scene.text(102 + k * 136, 80, value, (26, 34, 56), 22)
    scene.box(92, 136, 488, 364, "white", 8)
    for k, high in enumerate((60, 110, 84, 150, 130, 176, 98, 140)):
        scene.box(112 + k * 46, 346 - high, 140 + k * 46, 346, (70, 130, 240), 3)
    return scene.pixels()


def chart() -> Pixels:
    scene = Scene()
    scene.text(150, 10, "Water level, 2025", (40, 40, 40), 20)
    for k in range(6):
        scene.line((222, 222, 222), 1, (60, 60 + k * 54), (490, 60 + k * 54))
        scene.text(28, 53 + k * 54, str(50 - 10 * k), (90, 90, 90), 12)
    rng = np.random.default_rng(2)
    for colour, base in (((214, 60, 50), 120), ((40, 110, 190), 220)):
        walk = base + rng.normal(0, 22, 21).cumsum() * 0.6
        scene.line(colour, 2.5, *((60.0 + 21.5 * k, float(v)) for k, v in enumerate(walk)))
    scene.line((60, 60, 60), 1.5, (60, 50), (60, 330), (490, 330))
    return scene.pixels()


def editor() -> Pixels:
    scene = Scene((30, 31, 40))
    scene.box(-LEFT, -TOP, WIDTH + LEFT, 30, (44, 46, 58))
    scene.box(0, 4, 110, 30, (30, 31, 40))
    scene.text(14, 9, "harbour.py", (210, 210, 220), 13)
    scene.box(-LEFT, 30, 40, HEIGHT + TOP, (37, 38, 49))
    colours = ((150, 120, 240), (220, 220, 225), (120, 200, 140), (240, 180, 110))
    rng = np.random.default_rng(4)
    for row in range(17):
        scene.text(12, 42 + row * 20, str(row + 1), (96, 98, 116), 12)
        x = 54.0 + 18 * int(rng.integers(0, 4))
        for _ in range(int(rng.integers(2, 8))):
            word = WORDS[int(rng.integers(len(WORDS)))]
            scene.text(x, 42 + row * 20, word, colours[int(rng.integers(4))], 13)
            x += ImageFont.load_default(13).getlength(word + " ")
    return scene.pixels()


def chat() -> Pixels:
    scene = Scene((236, 240, 244))
    scene.box(-LEFT, -TOP, WIDTH + LEFT, 46, (20, 120, 110))
    scene.text(20, 12, "Ferry crew", "white", 18)
    for k, (mine, words) in enumerate(
        (
            (False, "Are we sailing at six?"),
            (True, "Fog until seven."),
            (False, "Then I make coffee."),
            (True, "Thanks!"),
        )
    ):
        left = 500 - 16 * 13 if mine else 12
        scene.box(left, 66 + k * 74, left + 200, 116 + k * 74, (214, 246, 200) if mine else "white", 14)
        scene.text(left + 14, 80 + k * 74, words, (40, 40, 40), 14)
    return scene.pixels()


# Patterns


def stripes(angle: float) -> Callable[[], Pixels]:
    def draw() -> Pixels:
        x, y = grid()
        across = x * np.sin(np.radians(angle)) - y * np.cos(np.radians(angle))
        return rounded(blend(np.sin(across * np.pi / 20) * 6 + 0.5, (244, 236, 220), (40, 84, 120)))

    return draw


def checkerboard() -> Pixels:
    x, y = grid()
    return rounded(blend(((x // 32 + y // 32) % 2), (240, 240, 240), (30, 30, 30)))


def squared_paper() -> Pixels:
    scene = Scene((252, 252, 248))
    for k in range(-20, 80):
        scene.line((150, 190, 220), 1, (k * 16 + 8, -TOP), (k * 16 + 8, HEIGHT + TOP))
        scene.line((150, 190, 220), 1, (-LEFT, k * 16 + 8), (WIDTH + LEFT, k * 16 + 8))
    return scene.pixels()


def tricolour() -> Pixels:
    scene = Scene((255, 255, 255))
    scene.box(-LEFT, -TOP, WIDTH + LEFT, 128, (174, 28, 40))
    scene.box(-LEFT, 256, WIDTH + LEFT, HEIGHT + TOP, (33, 70, 139))
    return scene.pixels()


def cross() -> Pixels:
    scene = Scene((0, 106, 167))
    scene.box(144, -TOP, 216, HEIGHT + TOP, (254, 204, 2))
    scene.box(-LEFT, 156, WIDTH + LEFT, 228, (254, 204, 2))
    return scene.pixels()


def slanting_band() -> Pixels:
    scene = Scene((236, 232, 220))
    scene.line((210, 70, 60), 46, (-LEFT - 60, 420), (WIDTH + LEFT + 60, 40))
    scene.line((40, 60, 90), 14, (-LEFT - 60, 500), (WIDTH + LEFT + 60, 120))
    return rounded(scene.pixels().astype(float), grain=2)


SCENES: dict[str, dict[str, Callable[[], Pixels]]] = {
    "plain and smooth": {
        "uniform": uniform,
        "uniform, grain": uniform_with_grain,
        "vertical gradient": vertical_gradient,
        "slanting gradient": slanting_gradient,
        "radial gradient": radial_gradient,
        "radial, off centre": radial_off_centre,
        "vignette": vignette,
        "defocused": defocused,
    },
    "objects on plain ground": {
        "on white": product_on_white,
        "soft shadow": product_with_shadow,
        "on a table": product_on_a_table,
        "shoe near the border": shoe_near_the_border,
        "cut subject": cut_subject,
    },
    "logos, icons, line art": {
        "logo": logo,
        "logo to the border": logo_to_the_border,
        "line art": line_art,
        "pixel art": pixel_art,
        "icon, round corners": icon_with_round_corners,
        "cut-out": cut_out,
    },
    "documents and screens": {
        "page of text": page_of_text,
        "two columns": two_columns,
        "text cut by the border": text_cut_by_the_border,
        "scanned form": scanned_form,
        "dashboard": dashboard,
        "chart": chart,
        "editor": editor,
        "chat": chat,
    },
    "patterns": {
        "level stripes": stripes(0),
        "stripes at 25 degrees": stripes(25),
        "stripes at 45 degrees": stripes(45),
        "checkerboard": checkerboard,
        "squared paper": squared_paper,
        "tricolour": tricolour,
        "cross": cross,
        "slanting band": slanting_band,
    },
}
UNKNOWABLE = {"text cut by the border", "cut subject", "defocused"}
"""Scenes whose truth nobody could tell from the original."""
