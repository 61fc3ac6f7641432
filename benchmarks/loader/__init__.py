"""How fast the training reader is, beside how others read the same: `python -m benchmarks.loader`.

What is read is made once: clips of 15 frames are taken from the inputs and brought to 1280x720, and
datasets are synthesised from them. Then, in one process and one thread, contenders take turns:

    our reader       `SampleStream`: index, tars, record, decoding, crop, flips, tensors
    bare decode      the same pictures decoded from members in memory, and nothing else
    motion vectors   the dense fields of the same windows from members in memory, and nothing else
    webdataset       plain `webdataset` over the same tars, members decoded by the same functions
    LitData, MDS     the same members in the formats of LitData and MosaicML Streaming, decoded by
                     the same functions, in interpreters where these are installed
    folders          PNG frames and npz motion vectors, as CAVSR's release reads them

There are two sections, for the two ways in which that release keeps its folders:

    whole frames     REDS style: 1280x720, of which a crop is trained on. Our reader has a row for
                     the same whole frames, and one for patches of 512x512 cut out of them, which
                     is what a dataset is meant to hold; the other rows are of these patches.
    small patches    Vimeo style: seven frames of the size that is trained on, 64x64 and 256x256.

Every contender must give the pixels that our reader gives, and is told which windows to read:
those that our reader drew. All files are in the system's cache. Bytes are those of all LR streams,
HR and metadata.

Rows of JPEG are of a second dataset, whose HR is stored as JPEG 4:4:4 and is not exact.
"""
