"""Cut the boxes of `scan_boxes` from public scans.

Boxes D are those of development. Boxes H, N, P, Q, R, S and T were held out from earlier series of
changes, and have been seen since. Boxes U were named, with their places, before the method saw
them: their places are random. Their results are read once, at the end of a series of changes.

`FILES` names the scans and where they are from: packages of PyPI and Debian, and repositories of
GitHub with their commits. The script reads their files from one folder; an archive is unpacked
there, and a file keeps its name. It prints the arguments of `scan_boxes`, small boxes first.

    python -m benchmarks.performance.scan_box_files scans boxes
    python -m benchmarks.performance.scan_boxes $(cat boxes/list.txt) --keep slices
"""

from __future__ import annotations

import argparse
import plistlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from benchmarks.performance.scan_figures import Volume
from convnd import io
from convnd.grid import Grid

_NIIVUE = "github.com/neurolabusc/niivue-images@87579783"
_DEMO = "github.com/niivue/niivue-demo-images@f6f98294"
_DEMO_PAGES = "github.com/niivue/niivue@9255c43c, demos/images"
_LESION = "github.com/BrainLesion/preprocessing@22661a6c, TCGA-FG-6692"
_SEGMENTATOR = "github.com/wasserth/TotalSegmentator@0e65a448, tests/reference_files"
_RADIOMICS = "pyradiomics 3.0.1 (PyPI, source)"

FILES = {
    "lung1": ("lung1_image.nrrd", _RADIOMICS),
    "lung2": ("lung2_image.nrrd", _RADIOMICS),
    "brain1": ("brain1_image.nrrd", _RADIOMICS),
    "brain2": ("brain2_image.nrrd", _RADIOMICS),
    "breast1": ("breast1_image.nrrd", _RADIOMICS),
    "mni152": ("mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz", "nilearn (PyPI)"),
    "anatomical": ("anatomical.nii", "nibabel (PyPI)"),
    "stent": ("stent.npz", "imageio 2.9.0 (PyPI)"),
    "cranium": ("main.plist", "invesalius-examples (Debian), in Cranium.inv3"),
    "aorta": ("ct_cropped.nii.gz", f"{_SEGMENTATOR}/aorta_report/test_result/models"),
    "abdomen": ("example_ct.nii.gz", _SEGMENTATOR),
    "liver": ("example_mr_sm.nii.gz", _SEGMENTATOR),
    "heart": ("pulmonary/ct_cropped.nii.gz", f"{_SEGMENTATOR}/pulmonary_report/models"),
    "t1": ("t1.nii.gz", f"{_LESION}, T1_AX"),
    "t1c": ("t1c.nii.gz", f"{_LESION}, MRHR_T1_AX_POST_GAD"),
    "t2": ("t2.nii.gz", f"{_LESION}, MRHR_T2_AX"),
    "flair": ("flair.nii.gz", f"{_LESION}, MRHR_FLAIR_AX"),
    "flair1mm": ("FLAIR.nii.gz", _DEMO_PAGES),
    "t2head": ("T2w.nii.gz", f"{_DEMO}, register"),
    "t2brain": ("M2208_T2w.nii.gz", _DEMO),
    "nerve": ("dicom", f"{_DEMO}; a folder of 120 slices, VS-SEG-001"),
    "t1head": ("chris_t1.nii.gz", _NIIVUE),
    "pdhead": ("chris_PD.nii.gz", _NIIVUE),
    "gadolinium": ("MR_Gd.nii.gz", _NIIVUE),
    "iguana": ("Iguana.nii.gz", _NIIVUE),
    "perfusion": ("pcasl.nii.gz", _NIIVUE),
    "diffusion": (
        "sub-01_ses-01_dwi_desc-b0_dwi.nii.gz",
        _DEMO_PAGES,
    ),
    "angiography": ("CT_AVM.nii.gz", _NIIVUE),
    "pitch": ("CT_pitch.nii.gz", _NIIVUE),
    "vessels": ("chris_MRA.nii.gz", _NIIVUE),
    "colin27": ("ch2.nii.gz", "mricron-data (Debian)"),
    "norm": ("norm.mgz", _DEMO_PAGES),
    "monkey": ("inia19-t1-brain.nii.gz", _DEMO_PAGES),
    "echo-planar": ("mean_func.nii.gz", _DEMO_PAGES),
    "diffusion3mm": ("dwi.nii.gz", f"{_DEMO}, register"),
    "example4d": ("example4d.nii.gz", "nibabel 5.4.2 (PyPI), tests/data"),
    "functional": ("fmri.nii.gz", f"{_DEMO}, register"),
    "t1whole": ("otsu.nii.gz", _DEMO_PAGES),
    "t1coarse": ("T1_head_ext2.nii.gz", f"{_DEMO}, register"),
    "ctatlas": ("ct_brain_atlas_1mm.nii.gz", "github.com/wasserth/TotalSegmentator@0e65a448"),
    "labelling": ("mpld_asl.nii.gz", _DEMO_PAGES),
    "functional3mm": ("fslmean.nii.gz", _DEMO_PAGES),
    "functional4mm": ("mha.mha", _DEMO_PAGES),
    "cit168": ("CIT168toMNI152-2009c_T1w_brain.nii.gz", f"{_DEMO}, CIT168"),
    "skull": ("shear.nii.gz", _DEMO_PAGES),
    "anisotropy": ("FA.nii.gz", _DEMO_PAGES),
    "t1small": ("AIL.nii.gz", _DEMO_PAGES),
    "t1average": ("avg152T1_RL_nifti.nii.gz", _DEMO_PAGES),
    "t1average2mm": ("MNI152_T1_2mm.nii.gz", f"{_DEMO}, register"),
    "functional3.6mm": ("fmri_pitch.nii.gz", _DEMO),
    "spm152": ("spm152.nii.gz", _NIIVUE),
    "pd25": ("PD25-fusion-template-1mm.nii.gz", f"{_DEMO}, PD25"),
    "colin27fine": ("ch2better.nii.gz", "mricron-data (Debian)"),
    "PET": ("", "simulated"),
    "porous": ("", "simulated"),
    "noisy PET": ("", "simulated"),
    "noisy porous": ("", "simulated"),
}
"""The file of each scan in the folder of scans, and where it is from."""


@dataclass(frozen=True)
class Place:
    """A box of a scan.

    Args:
        scan: a name in `FILES`.
        box: voxels along each axis of the file, ``first:end``; "" is the whole scan.
        style: the box whose look this one takes; "" for boxes that are styles only.
    """

    scan: str
    box: str = ""
    style: str = ""


PLACES = {
    "D01-chest": Place("lung1", "300:364,300:364,20:32", "D02-chest"),
    "D02-chest": Place("lung2", "320:448,150:278,10:34", "H01-chest"),
    "D03-chest": Place("lung2", "64:256,220:412,40:61", "H01-chest"),
    "D04-head": Place("cranium", "64:192,60:188,20:52", "D05-abdomen"),
    "D05-abdomen": Place("abdomen", "0:122,0:101,60:112", "D03-chest"),
    "D06-T1": Place("brain1", "40:200,20:210,2:25", "H13-T1"),
    "D07-T1-average": Place("mni152", "50:146,60:156,60:108", "D13-T1"),
    "D08-T1": Place("t1c", "40:216,20:200,0:26", "D06-T1"),
    "D09-T2": Place("t2", "30:200,20:230,0:26", "H09-T2"),
    "D10-T1": Place("anatomical", "", "D07-T1-average"),
    "D11-stent": Place("stent", "32:96,32:96,64:192", "D14-array"),
    "D12-breast": Place("breast1", "", "D06-T1"),
    "D13-T1": Place("t1head", "60:156,80:176,60:108", "H12-T1"),
    "D14-array": Place("porous", "", "style-array"),
    "D15-PET": Place("PET", "", "style-PET"),
    "D16-FLAIR": Place("flair1mm", "20:104,30:130,50:98", "H08-FLAIR"),
    "H01-chest": Place("lung1", "128:384,180:436,0:48", "D03-chest"),
    "H02-chest": Place("lung2", "200:264,330:394,5:17", "H01-chest"),
    "H03-thorax": Place("aorta", "10:106,15:111,90:138", "H01-chest"),
    "H04-chest": Place("lung2", "380:508,280:408,20:36", "H01-chest"),
    "H05-head": Place("cranium", "0:256,0:256,56:104", "H01-chest"),
    "H06-pelvis": Place("abdomen", "0:122,0:101,0:48", "H04-chest"),
    "H07-heart": Place("heart", "5:117,5:97,20:68", "H04-chest"),
    "H08-FLAIR": Place("flair", "", "D16-FLAIR"),
    "H09-T2": Place("t2head", "32:192,32:192,6:54", "D09-T2"),
    "H10-T2": Place("t2brain", "26:122,40:136,50:98", "H09-T2"),
    "H11-T1": Place("t1", "40:216,20:200,0:26", "D13-T1"),
    "H12-T1": Place("nerve", "128:384,128:384,50:90", "D13-T1"),
    "H13-T1": Place("brain2", "50:210,40:200,0:23", "D06-T1"),
    "H14-T1": Place("gadolinium", "40:136,40:136,50:98", "H12-T1"),
    "H15-PD": Place("pdhead", "30:158,60:188,10:42", "H11-T1"),
    "H16-diffusion": Place("diffusion", "0:81,0:106,10:58", "D09-T2"),
    "H17-perfusion": Place("perfusion", "", "H16-diffusion"),
    "H18-array": Place("iguana", "60:156,60:156,60:108", "D14-array"),
    "H19-liver": Place("liver", "", "D09-T2"),
    "N01-chest": Place("lung1", "200:320,330:430,22:46", "N02-chest"),
    "N02-chest": Place("lung2", "80:200,150:250,36:60", "N01-chest"),
    "N03-head": Place("cranium", "100:196,100:196,60:92", "D04-head"),
    "N04-thorax": Place("aorta", "10:106,15:111,20:60", "N05-heart"),
    "N05-heart": Place("heart", "5:101,5:97,70:108", "N04-thorax"),
    "N06-angiography": Place("angiography", "70:166,70:166,60:92", "N07-pitch"),
    "N07-pitch": Place("pitch", "30:140,70:180,12:40", "N06-angiography"),
    "N08-T1": Place("norm", "75:171,60:156,90:130", "N09-T1"),
    "N09-T1": Place("colin27", "40:136,60:156,60:100", "N08-T1"),
    "N10-vessels": Place("vessels", "50:146,80:176,40:76", "N11-monkey"),
    "N11-monkey": Place("monkey", "40:130,50:146,40:80", "N10-vessels"),
    "N12-echo-planar": Place("echo-planar", "", "N13-diffusion"),
    "N13-diffusion": Place("diffusion3mm", "", "N12-echo-planar"),
    "P01-echo-planar": Place("example4d", "", "P02-echo-planar"),
    "P02-echo-planar": Place("functional", "", "P01-echo-planar"),
    "P03-T1": Place("t1whole", "40:136,70:166,70:110", "P04-T1"),
    "P04-T1": Place("t1coarse", "10:94,20:130,50:98", "P03-T1"),
    "P05-CT-average": Place("ctatlas", "50:146,50:146,70:110", "N03-head"),
    "P06-labelling": Place("labelling", "", "P08-echo-planar"),
    "P07-echo-planar": Place("functional3mm", "", "P06-labelling"),
    "P08-echo-planar": Place("functional4mm", "", "P07-echo-planar"),
    "P09-T1-average": Place("cit168", "40:136,50:146,70:110", "P03-T1"),
    "P10-skull": Place("skull", "90:218,130:290,15:43", "D04-head"),
    "P11-anisotropy": Place("anisotropy", "", "P02-echo-planar"),
    "P12-chest": Place("lung1", "384:496,200:320,14:38", "P13-chest"),
    "P13-chest": Place("lung2", "270:390,170:290,37:61", "P12-chest"),
    "P14-thorax": Place("aorta", "12:108,20:116,140:164", "N05-heart"),
    "P15-T1": Place("nerve", "128:384,128:384,4:36", "P03-T1"),
    "Q01-chest": Place("lung1", "150:246,230:326,20:44", "Q02-chest"),
    "Q02-chest": Place("lung2", "250:346,280:376,6:30", "Q01-chest"),
    "Q03-T1": Place("brain1", "60:156,80:176,3:25", "Q04-T1"),
    "Q04-T1": Place("brain2", "90:186,90:186,1:23", "Q03-T1"),
    "Q05-T1-average": Place("mni152", "90:170,110:190,108:140", "Q06-T1"),
    "Q06-T1": Place("norm", "110:190,110:190,130:162", "Q05-T1-average"),
    "Q07-stent": Place("stent", "24:104,24:104,10:64", "D14-array"),
    "Q08-heart": Place("heart", "20:110,10:95,0:20", "Q01-chest"),
    "Q09-FLAIR": Place("flair1mm", "60:120,60:140,96:126", "Q10-T2"),
    "Q10-T2": Place("t2brain", "40:120,60:140,16:48", "Q09-FLAIR"),
    "Q11-monkey": Place("monkey", "60:140,90:170,82:114", "Q06-T1"),
    "R01-chest": Place("lung1", "330:426,260:356,24:48", "R02-chest"),
    "R02-chest": Place("lung2", "90:186,250:346,20:44", "R01-chest"),
    "R03-functional": Place("functional3.6mm", "", "P07-echo-planar"),
    "R04-T1": Place("t1small", "", "R05-T1-average"),
    "R05-T1-average": Place("t1average", "10:80,10:100,20:52", "R06-T1-average"),
    "R06-T1-average": Place("t1average2mm", "10:80,10:100,30:62", "R04-T1"),
    "R07-T1-average": Place("spm152", "60:156,100:196,90:122", "R08-average"),
    "R08-average": Place("pd25", "40:120,60:140,70:102", "R07-T1-average"),
    "R09-T1": Place("colin27fine", "90:186,130:226,150:182", "R13-monkey"),
    "R10-FLAIR": Place("flair1mm", "30:110,50:130,24:48", "R11-T2"),
    "R11-T2": Place("t2brain", "30:110,70:150,100:132", "R10-FLAIR"),
    "R12-gadolinium": Place("gadolinium", "50:130,50:130,98:130", "R14-T1"),
    "R13-monkey": Place("monkey", "40:120,60:140,20:44", "R09-T1"),
    "R14-T1": Place("t1head", "60:140,90:170,110:142", "R12-gadolinium"),
    "R15-heart": Place("aorta", "15:105,20:110,56:84", "R16-abdomen"),
    "R16-abdomen": Place("abdomen", "10:110,5:95,20:52", "R15-heart"),
    "S01-chest": Place("lung1", "180:276,300:396,8:32", "S02-chest"),
    "S02-chest": Place("lung2", "300:396,200:296,30:54", "S01-chest"),
    "S03-head": Place("cranium", "40:136,120:216,64:92", "S01-chest"),
    "S04-abdomen": Place("abdomen", "20:116,3:99,30:60", "R15-heart"),
    "S05-PD": Place("pdhead", "40:120,80:160,20:40", "S08-T1"),
    "S06-FLAIR": Place("flair1mm", "20:100,70:150,70:102", "S07-T2"),
    "S07-T2": Place("t2brain", "40:120,40:120,60:92", "S06-FLAIR"),
    "S08-T1": Place("t1head", "80:160,60:140,70:102", "S09-diffusion"),
    "S09-diffusion": Place("diffusion", "10:74,20:100,4:36", "S10-echo-planar"),
    "S10-echo-planar": Place("functional", "20:80,10:70,10:40", "S09-diffusion"),
    "S11-T2": Place("t2", "60:188,60:188,4:24", "S12-T1"),
    "S12-T1": Place("t1c", "60:188,60:188,4:24", "S11-T2"),
    "S13-stent": Place("stent", "40:104,20:84,120:180", "D14-array"),
    "T01-chest": Place("lung1", "100:196,200:296,4:28", "T02-chest"),
    "T02-chest": Place("lung2", "100:196,300:396,8:32", "T01-chest"),
    "T03-head": Place("cranium", "120:216,40:136,30:58", "T01-chest"),
    "T04-T1": Place("brain1", "60:156,40:136,3:25", "T05-T1"),
    "T05-T1": Place("brain2", "60:156,60:156,1:23", "T04-T1"),
    "T06-PD": Place("pdhead", "60:140,60:140,4:28", "T09-T1"),
    "T07-FLAIR": Place("flair1mm", "30:110,40:120,100:132", "T08-T2"),
    "T08-T2": Place("t2brain", "30:110,50:130,76:108", "T07-FLAIR"),
    "T09-T1": Place("t1head", "40:120,60:140,30:62", "T10-T1"),
    "T10-T1": Place("nerve", "160:288,128:256,88:118", "T09-T1"),
    "T11-T2": Place("t2", "40:168,60:188,2:22", "T12-T1"),
    "T12-T1": Place("t1", "60:188,60:188,4:24", "T11-T2"),
    "T13-gadolinium": Place("gadolinium", "60:140,60:140,60:92", "T14-T1"),
    "T14-T1": Place("colin27", "60:140,80:160,100:132", "T13-gadolinium"),
    "T15-diffusion": Place("diffusion", "10:74,20:100,26:58", "T16-echo-planar"),
    "T16-echo-planar": Place("functional", "20:80,20:80,24:56", "T15-diffusion"),
    "U01-chest": Place("lung1", "181:277,246:342,11:35", "U02-chest"),
    "U02-chest": Place("lung2", "160:256,211:307,34:58", "U01-chest"),
    "U03-head": Place("cranium", "109:205,76:172,61:93", "U01-chest"),
    "U04-abdomen": Place("abdomen", "48:80,5:101,8:104", "R15-heart"),
    "U05-liver": Place("liver", "68:100,0:91,0:20", "U20-T1"),
    "U06-T1": Place("brain1", "96:192,126:222,1:25", "U07-T1"),
    "U07-T1": Place("brain2", "88:184,61:157,0:23", "U08-PD"),
    "U08-PD": Place("pdhead", "5:101,108:204,29:53", "U09-FLAIR"),
    "U09-FLAIR": Place("flair1mm", "67:99,56:152,16:112", "U10-T2"),
    "U10-T2": Place("t2brain", "20:52,63:159,33:129", "U11-T2"),
    "U11-T2": Place("t2head", "13:109,52:148,11:43", "U12-T1"),
    "U12-T1": Place("t1head", "30:62,39:135,67:163", "U13-T1"),
    "U13-T1": Place("nerve", "243:339,162:258,4:28", "U14-T2"),
    "U14-T2": Place("t2", "92:188,57:153,2:26", "U15-T1"),
    "U15-T1": Place("t1", "129:225,50:146,2:26", "U16-FLAIR"),
    "U16-FLAIR": Place("flair", "38:134,59:155,0:24", "U17-gadolinium"),
    "U17-gadolinium": Place("gadolinium", "72:168,47:143,104:136", "U18-T1"),
    "U18-T1": Place("colin27", "89:121,32:128,70:166", "U19-T1"),
    "U19-T1": Place("t1whole", "27:59,2:98,45:141", "U20-T1"),
    "U20-T1": Place("t1coarse", "26:58,11:107,25:121", "U21-monkey"),
    "U21-monkey": Place("monkey", "83:115,69:165,9:105", "U22-norm"),
    "U22-norm": Place("norm", "126:158,102:198,80:176", "U21-monkey"),
    "style-PET": Place("noisy PET"),
    "style-array": Place("noisy porous"),
}
"""The boxes, with their names."""


def main() -> None:
    """Cut every box, and print and write the arguments of `scan_boxes`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", type=Path, help="folder of the files")
    parser.add_argument("boxes", type=Path, help="folder to write to")
    arguments = parser.parse_args()
    arguments.boxes.mkdir(parents=True, exist_ok=True)
    scans: dict[str, Grid] = {}
    sizes = {}
    for name, place in PLACES.items():
        if place.scan not in scans:
            scans[place.scan] = _read(place.scan, arguments.scans)
        scan = scans[place.scan]
        parts = place.box.split(",") if place.box else []
        box = [slice(*map(int, part.split(":"))) for part in parts]
        frame = scan.with_values(scan.values[:, :1])
        grid = io.crop(frame, box) if box else frame
        io.write(arguments.boxes / f"{name}.nii.gz", grid)
        sizes[name] = grid.values.numel()
    lines = [
        f"{arguments.boxes / name}.nii.gz={arguments.boxes / PLACES[name].style}.nii.gz"
        for name in sorted(sizes, key=sizes.__getitem__)
        if PLACES[name].style
    ]
    (arguments.boxes / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _read(name: str, folder: Path) -> Grid:
    """Read or simulate a scan of `FILES`."""
    path = folder / FILES[name][0]
    if name == "stent":
        return _grid(np.load(path)["arr_0"], (1.0, 1.0, 1.0))
    if name == "cranium":  # a project of InVesalius, with slices ``(K, J, I)`` in HU
        project = plistlib.loads(path.read_bytes())
        values = np.fromfile(path.parent / "matrix.dat", np.int16)
        return _grid(values.reshape(project["matrix"]["shape"]), tuple(project["spacing"][::-1]))
    if "PET" in name:
        return _grid(_pet(2, 0.2) if "noisy" in name else _pet(1, 0.1), (4.0, 4.0, 4.0))
    if "porous" in name:
        return _grid(_porous(2, 0.08) if "noisy" in name else _porous(1, 0.03), (1.0, 1.0, 1.0))
    return io.read(path)


def _grid(values: Volume, spacing: tuple[float, ...]) -> Grid:
    """A grid of slices ``(K, J, I)``."""
    tensor = torch.from_numpy(np.ascontiguousarray(values.T)).float()
    steps = spacing[::-1]
    header = {"affine": np.diag([*steps, 1.0])}
    return Grid(values=tensor[None, None], spacing=steps, units=("mm",) * 3, header=header)


def _pet(seed: int, noise: float) -> Volume:
    """A PET of a body in standardised uptake values: smooth, with hot spots that are noisier."""
    rng = np.random.default_rng(seed)
    shape = (48, 96, 128)
    z, y, x = np.meshgrid(*(np.arange(extent) for extent in shape), indexing="ij", sparse=True)
    uptake = np.where(((y - 48) / 36) ** 2 + ((x - 64) / 52) ** 2 < 1, 0.8, 0.0) + 0 * z
    for value, count, radius in ((2.2, 3, 14), (0.3, 2, 16), (8.0, 6, 3)):
        for _ in range(count):
            cz, cy, cx = rng.uniform((8, 30, 35), (40, 66, 93))
            uptake[
                ((z - cz) / radius) ** 2 + ((y - cy) / radius) ** 2 + ((x - cx) / radius) ** 2 < 1
            ] = value
    uptake = ndimage.gaussian_filter(uptake, 0.7)
    grain = ndimage.gaussian_filter(rng.normal(size=shape), 0.8)
    uptake += noise * np.sqrt(uptake * 0.8) * grain / grain.std()
    result: Volume = uptake.clip(0).astype(np.float32)
    return result


def _porous(seed: int, noise: float) -> Volume:
    """A porous material of two phases, with the blur and noise of an instrument."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(64, 96, 96)), 3.0)
    values = ndimage.gaussian_filter(np.where(field > 0, 0.8, 0.2), 0.7)
    result: Volume = (values + noise * rng.normal(size=field.shape)).astype(np.float32)
    return result


if __name__ == "__main__":
    main()
