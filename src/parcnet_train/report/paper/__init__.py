"""Tables and figures of the ParC-Net paper (arXiv 2203.03952), and our networks beside them."""
