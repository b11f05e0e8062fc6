"""The audit: what is wrong with labeled photographs, found before or after anything is learnt from them.

Knows single pictures, duplicates, labels and classes; does not know how a person decides about what was found.
"""
