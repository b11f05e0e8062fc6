"""Configuration of the documentation site: Sphinx, with Markdown by MyST and the theme Furo.

The source folder is the repository, so that a link from a page to the README, the changelog or a result works on the
site as it works in the repository: `sphinx-build -c docs . build/docs`.
"""

import belvedere

project = "Belvedere"
author = "The Belvedere developers"
copyright = "The Belvedere developers, Apache-2.0"  # noqa: A001 - the name that Sphinx reads
version = release = belvedere.__version__

extensions = ["myst_nb", "sphinx_copybutton"]  # MyST-NB reads the pages as MyST-Parser does, and notebooks
nb_execution_mode = "off"  # the outputs are committed
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "docs/notebook.ipynb",
    "benchmarks/results/**.md",
    "src/belvedere/inference/assets/scenes.md",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
exclude_patterns = [".*", "build", "dist", "mutants", "tests", "tools"]  # nothing there is searched for pages
nitpicky = True  # unknown references are warnings, and `make docs` makes warnings errors
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
copybutton_prompt_text = "$ "

html_theme = "furo"
html_title = "Belvedere"
html_static_path = ["_static"]
html_css_files = ["belvedere.css"]
html_extra_path = ["_root"]  # index.html, which leads to docs/index.html
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1d5f8a", "color-brand-content": "#1d5f8a"},
    "dark_css_variables": {"color-brand-primary": "#7fb8dd", "color-brand-content": "#7fb8dd"},
}
