"""Odd pictures of the web: strips, what is behind or missing, colours, and formats by name."""

import importlib.util
import io
import sys
import types

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageCms

from fgvc_utils.contest import decoded, decoding, images, jpeg
from fgvc_utils.contest.decoding import UnreadableImage, decode, read_picture
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.demo import web


def saved(image, form="JPEG", **settings):
    out = io.BytesIO()
    image.save(out, form, **settings)
    return out.getvalue()


def photo(width=96, height=64):
    return web.photo(width, height)


# Any shape.


@pytest.mark.parametrize("size", [(90, 70_000), (70_000, 2), (1, 3000), (3000, 1), (1, 1)])
def test_a_strip_is_cached_in_its_middle_and_noted(size, tmp_path):
    source = np.zeros((*size[::-1], 3), np.uint8)
    long, short = max(size), min(size)
    at = long // 2
    source[(slice(at - 9, at + 9), slice(None))[:: 1 if size[1] == long else -1]] = 200
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(source), "PNG"))
    row = images._take_in("a.png", root=tmp_path, cache=tmp_path, side=64)
    assert row["error"] == "" and (row["width"], row["height"]) == size
    assert row["note"].startswith("a strip of") == (long > 30 * short)
    cached = images.read_cached(tmp_path / row["cached"])
    shape = min(long, 30 * short) * min(1, 64 / short), min(short, 64)
    assert sorted(cached.shape[:2], reverse=True) == [round(shape[0]), shape[1]]
    middle = cached[cached.shape[0] // 2, cached.shape[1] // 2]
    assert long == 1 or middle.min() > 150


def test_decoded_pictures_and_views_of_a_strip_are_small():
    assert decoded.resized(1, 3000, 258) == (258, 258 * 30)
    strip = np.zeros((1, 3000, 3), np.uint8)
    strip[:, 1490:1510] = 255
    resized = decoded.resize(strip, 16)
    assert resized.shape == (16, 480, 3) and resized[:, 230:250].min() == 255
    assert decoded.resized(200, 300, 64) == (64, 96)


def test_a_side_beyond_what_a_jpeg_holds_is_cut(tmp_path):
    rows, columns = decoding.middle(3000, 100_000, 3000)
    assert (rows, columns) == (3000, 65_500)
    assert decoding.middle(3000, 100_000) == (3000, 90_000)


# What is behind, and what is missing.


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("behind", [bytes(5000), b"PK\3\4" + b"\xff\xda\0\0" * 500, b"\xff\xd9"])
def test_what_lies_behind_a_picture_is_left_alone(form, behind):
    data = saved(photo(), form)
    pictures = [read_picture(data), read_picture(data + behind)]
    assert np.array_equal(*(picture.pixels for picture in pictures))
    assert [(p.note, p.lacks) for p in pictures] == [("", "")] * 2


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("end", [b"", b"\xff", bytes(700)])
def test_a_jpeg_that_lacks_only_its_end_marker_is_used_with_a_note(mode, settings, end):
    data = saved(photo().convert(mode), **settings)
    picture = read_picture(data[:-2] + end)
    assert np.array_equal(picture.pixels, decode(data)[0])
    assert (picture.note, picture.lacks) == (decoding.NO_END, "")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP"])
@pytest.mark.parametrize("end", [b"", bytes(3000), jpeg.END])
def test_half_a_picture_stays_out_of_training_and_is_predicted(form, end, tmp_path):
    data = saved(photo(200, 160), form)
    if end and form != "JPEG":
        end = b""
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2] + end)
    row = images._take_in("a.jpg", root=tmp_path, cache=tmp_path, side=64)
    assert row["error"].startswith("truncated") and row["cached"] and row["look"] == ""
    assert (row["height"], row["width"]) == (160, 200)
    assert images.read_cached(tmp_path / row["cached"]).std() > 5
    with pytest.raises(UnreadableImage, match="truncated"):
        decode(data[: len(data) // 2] + end)


def test_a_progressive_jpeg_cut_between_its_scans_is_not_whole():
    data = saved(photo(200, 160), progressive=True)
    cut = data[: data.rindex(b"\xff\xda")]
    picture = read_picture(cut)
    assert "scans of a progressive JPEG are missing" in picture.lacks
    assert picture.pixels.shape == (160, 200, 3)
    found = jpeg.structure(data)
    assert found.every_scan and found.progressive and found.scans == data.count(b"\xff\xda")


def test_a_png_without_its_end_is_used_with_a_note():
    data = saved(photo(), "PNG")
    assert read_picture(data[:-12]).note == decoding.NO_END


def test_broken_exif_costs_no_picture():
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\1\3\0\1\0\0\0\x2a\0\0\0"
    data = saved(photo(), exif=exif)
    assert decode(data)[1] == "RGB" and np.array_equal(decode(data)[0], decode(saved(photo()))[0])


# Colours.


def reference(data, mode="RGB"):
    """By Pillow and LittleCMS, as a viewer that honours profiles shows it."""
    image = Image.open(io.BytesIO(data))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    srgb = ImageCms.createProfile("sRGB")
    return np.asarray(
        ImageCms.profileToProfile(image.convert(mode), profile, srgb, outputMode="RGB")
    )


@pytest.mark.parametrize("profile", ["Display P3", "Adobe RGB (1998)", "ProPhoto RGB"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_profile_is_honoured(profile, form):
    data = saved(photo(), form, icc_profile=web.profile(profile), quality=95)
    found, wanted = decode(data)[0].astype(int), reference(data)
    assert np.abs(found - wanted).max() <= 2
    plain = decode(saved(photo(), form, quality=95))[0]
    assert np.abs(found - plain).max() > 10


def test_other_kinds_of_profiles_are_honoured():
    grey, cmyk = photo().convert("L"), photo().convert("CMYK")
    for image, name in ((grey, "Grey gamma 2.8"), (cmyk, "CMYK")):
        data = saved(image, "TIFF", icc_profile=web.profile(name))
        wanted = reference(data, image.mode)
        assert np.abs(decode(data)[0].astype(int) - wanted).max() <= 2
        assert np.abs(wanted.astype(int) - decode(saved(image, "TIFF"))[0]).max() > 10
    rgba = photo().convert("RGBA")
    alpha = np.zeros((64, 96), np.uint8)
    alpha[32:] = 255
    rgba.putalpha(Image.fromarray(alpha))
    data = saved(rgba, "PNG", icc_profile=web.profile("Display P3"))
    found = decode(data)[0]
    assert np.abs(found[-1].astype(int) - reference(data)[-1]).max() <= 2
    assert (found[0] == 255).all()


def test_srgb_is_left_alone_bit_for_bit_and_a_broken_profile_is_noted():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for form in ("JPEG", "PNG"):
        plain = decode(saved(photo(), form))[0]
        for profile, said in (
            (srgb, ""),
            (web.profile("sRGB"), ""),
            (srgb[:200], "broken"),
            (b"rubbish" * 40, "broken"),
            (web.profile("Grey gamma 2.8"), "another kind"),
            (web.profile("CMYK"), "another kind"),
        ):
            picture = read_picture(saved(photo(), form, icc_profile=profile))
            assert np.array_equal(picture.pixels, plain) and said in picture.note
            assert bool(picture.note) == bool(said) and picture.version == 1


def test_a_profile_and_a_turn_go_together():
    exif = Image.Exif()
    exif[0x0112] = 6
    p3 = web.profile("Display P3")
    turned = decode(saved(photo(), quality=95, icc_profile=p3, exif=exif))
    plain = decode(saved(photo(), quality=95, icc_profile=p3))[0]
    assert turned[1] == "RGB rotated" and np.array_equal(turned[0], np.rot90(plain, -1))


def test_deep_grey_with_transparency_is_scaled_as_without():
    grey = np.linspace(1000, 30_000, 80).reshape(8, 10).astype(np.uint16)
    wanted = decode(web.png(grey, 16, 0))[0]
    keyed = decode(web.png(grey, 16, 0, grey[3, 4]))[0]
    clear = np.zeros(grey.shape, bool)
    clear[3, 4] = True
    assert (keyed[clear] == 255).all() and np.array_equal(keyed[~clear], wanted[~clear])
    alpha = np.where(clear, 0, 65_535)
    picture, stored_as = decode(web.png(np.stack([grey, alpha], axis=-1), 16, 4))
    assert stored_as == "RGBA" and np.array_equal(picture, keyed)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_the_transparent_grey_of_any_depth_is_white(depth):
    most = 2**depth - 1
    rows = np.arange(16).reshape(2, 8) % (most + 1)
    picture = decode(web.png(rows, depth, 0, 0))[0]
    assert np.array_equal(picture[..., 0], np.where(rows == 0, 255, rows * 255 // most))


def test_the_transparent_colour_of_16_bits_is_white():
    rows = np.array([[[1000, 65_535, 3000], [9000, 0, 65_535]]])
    picture = decode(web.png(rows, 16, 2, rows[0, 0]))[0]
    assert picture.tolist() == [[[255, 255, 255], [35, 0, 255]]]


def test_lab_is_read():
    lab = Image.new("LAB", (8, 8), (180, 128, 128))
    picture = decode(saved(lab, "TIFF"))[0]
    assert np.ptp(picture[0, 0].astype(int)) <= 2 and 160 < picture.mean() < 190


# Formats by their right name.


@pytest.mark.parametrize("name", sorted(web.STRANGERS))
def test_what_is_no_picture_here_is_called_by_its_name(name):
    said, data = web.STRANGERS[name]
    with pytest.raises(UnreadableImage) as raised:
        decode(data)
    assert said in str(raised.value), str(raised.value)


def test_a_known_format_that_is_broken_is_called_by_its_name():
    for form, name in (("WEBP", "WebP"), ("AVIF", "AVIF"), ("PNG", "PNG")):
        with pytest.raises(UnreadableImage, match=f"a broken {name}"):
            decode(saved(photo(), form)[:30])


def test_a_package_that_reads_heic_is_used(monkeypatch):
    called = []
    package = types.ModuleType("pillow_heif")
    package.register_heif_opener = lambda: called.append("HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    monkeypatch.setitem(Image.OPEN, "HEIF", (None, None))
    decoding._formats.cache_clear()
    try:
        assert "HEIF" in decoding._formats() and called == ["HEIF"]
    finally:
        decoding._formats.cache_clear()


def test_an_old_cache_keeps_no_wrong_colours(tmp_path):
    (tmp_path / "a.jpg").write_bytes(saved(photo(), icc_profile=web.profile("Display P3")))
    (tmp_path / "b.jpg").write_bytes(saved(photo()))
    listed = pd.DataFrame({"image_id": ["a", "b"], "path": ["a.jpg", "b.jpg"]})
    named = images.take_in(listed, tmp_path, tmp_path / "cache", 32)["cached"]
    assert named[0].endswith("-2.jpg") and not named[1].endswith("-2.jpg")


def test_the_page_of_what_becomes_of_pictures_is_current():
    place = PROJECT / "docs" / "make_pictures_page.py"
    spec = importlib.util.spec_from_file_location("make_pictures_page", place)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.page() == script.PAGE.read_text(encoding="utf-8"), f"run {place}"


def test_of_several_pictures_in_one_file_the_first_is_used_with_its_profile():
    p3 = web.profile("Display P3")
    more = [web.photo(96, 64, seed=1)]
    data = saved(photo(), "MPO", save_all=True, append_images=more, icc_profile=p3)
    picture = read_picture(data)
    wanted = decode(saved(photo(), icc_profile=p3))[0]
    assert picture.stored_as.startswith("RGB") and np.array_equal(picture.pixels, wanted)
    # A web server kept the first alone.
    first = data[: data.index(b"\xff\xd9\xff\xd8") + 2] if b"\xff\xd9\xff\xd8" in data else data
    assert np.array_equal(decode(first)[0], wanted)
