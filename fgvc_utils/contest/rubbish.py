"""Files that lie beside images and are none, by their names alone."""

# What a system or a program leaves beside images, by whole names in lower case.
RUBBISH_NAMES = frozenset(
    "thumbs.db ehthumbs.db ehthumbs_vista.db desktop.ini picasa.ini zbthumbnail.info pspbrwse.jbf "
    "autorun.inf icon\r".split(" ")
)
# Downloads that did not end, temporary files, shortcuts, and what file systems keep beside a file.
RUBBISH_ENDINGS = tuple(
    (
        ".crdownload .part .partial .filepart .dlpart .tmp .temp .aria2 .aria2__temp .download "
        ".opdownload .incomplete .unfinished .!ut .!qb .bc! .lnk .url .webloc .desktop .swp "
        ".swo .bak .lock ~ :zone.identifier @synoeastream @synoresource"
    ).split()
)
RUBBISH_FOLDERS = frozenset(
    "@eadir #recycle @recycle @trash @tmp @sharebin @recently-snapshot #snapshot ~snapshot "
    "$recycle.bin recycler lost+found __macosx __pycache__ node_modules resource.frk".split()
) | {"system volume information", "network trash folder", "temporary items"}

# Tables, texts, programs, archives, films and sounds: endings in lower case.
OTHER_ENDINGS = frozenset(
    "txt text json jsonl ndjson csv tsv html htm xhtml mhtml xml md rst yaml yml toml ini cfg conf "
    "log db sqlite sqlite3 mdb lmdb pdf doc docx xls xlsx ppt pptx odt ods rtf tex bib zip tar gz "
    "tgz bz2 xz 7z rar zst parquet feather arrow npy npz h5 hdf5 pkl pickle pt pth ckpt onnx "
    "safetensors mat rdata rds tfrecord tfrecords py pyc ipynb js css sh bat ps1 exe dll mp4 mov "
    "avi mkv webm m4v mpg mpeg wmv flv 3gp mp3 wav ogg flac m4a aac srt vtt xmp aae lst list "
    "torrent md5 sha1 sha256 asc sig".split()
)
OTHER_NAMES = frozenset(
    "readme license licence copying changelog authors notice manifest makefile dockerfile md5sums "
    "sha1sums sha256sums".split()
)

HIDDEN = "hidden: its name begins with a dot"
OF_A_SYSTEM = "left by a system or a program"
UNFINISHED = "a temporary file, a shortcut or a download that did not end"
NO_IMAGE = "no image by its name"


def rubbish(name: str) -> str:
    """Why a file's name says that it was left beside images and is none; empty where it does not.

    Parameters
    ----------
    name
        The name without its folder.
    """
    if name.startswith("."):
        return HIDDEN
    low = name.lower()
    if low in RUBBISH_NAMES:
        return OF_A_SYSTEM
    return UNFINISHED if low.startswith("~$") or low.endswith(RUBBISH_ENDINGS) else ""


def rubbish_folder(name: str) -> str:
    """Why a folder's name says that it holds no images of the contest; empty where it does not."""
    if name.startswith("."):
        return HIDDEN
    return OF_A_SYSTEM if name.lower() in RUBBISH_FOLDERS else ""


def is_other(name: str) -> bool:
    """Whether a file's name is that of a table, a text, an archive, a film and so on.

    Names that say nothing, as those of images from the web often do, are not among them.
    """
    stem, dot, ending = name.lower().rpartition(".")
    return ending in OTHER_ENDINGS if stem and dot else name.lower() in OTHER_NAMES
