"""Draws: figures and pages as data -> one self-contained HTML file."""

from deepforward.report.blocks import Advice, Block, Chart, Code, Facts, Heading, Images, Table, Text, Tone, Verdict
from deepforward.report.live import shell
from deepforward.report.page import Page, render, write
from deepforward.report.run_page import run_page
from deepforward.report.run_record import MaskRecord, RunRecord

__all__ = [
    "Advice",
    "Block",
    "Chart",
    "Code",
    "Facts",
    "Heading",
    "Images",
    "MaskRecord",
    "Page",
    "RunRecord",
    "Table",
    "Text",
    "Tone",
    "Verdict",
    "render",
    "run_page",
    "shell",
    "write",
]
