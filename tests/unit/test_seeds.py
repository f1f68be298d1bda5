#!/usr/bin/env python3
"""tests/fuzz/seeds writes what is in the corpus, and touches nothing else there."""

import sys
import tempfile
import unittest
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

sys.dont_write_bytecode = True
FUZZ = Path(__file__).resolve().parents[1] / "fuzz"
LOADER = SourceFileLoader("seeds", str(FUZZ / "seeds"))
seeds = module_from_spec(spec_from_loader("seeds", LOADER))
LOADER.exec_module(seeds)


class Seeds(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.corpus = seeds.CORPUS = Path(directory.name)

    def test_what_it_did_not_write_stays(self):
        others = [self.corpus / "msix" / name for name in ("found-one", "0123abcd", "mine")]
        others[0].parent.mkdir()
        for other in others:
            other.write_bytes(b"mine")
        seeds.main()
        for other in others:
            self.assertEqual(other.read_bytes(), b"mine")

    def test_the_corpus_is_what_it_writes(self):
        seeds.main()
        written = [path.relative_to(self.corpus) for path in self.corpus.rglob("*") if path.is_file()]
        self.assertGreater(len(written), 100)
        for path in written:
            self.assertEqual((self.corpus / path).read_bytes(), (FUZZ / "corpus" / path).read_bytes(), path)


if __name__ == "__main__":
    unittest.main()
