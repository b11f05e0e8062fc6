"""A local web page for going through doubtful labels, duplicates and leaks, with the keyboard.

`sources` reads what is in doubt, `queue` says what comes next, `pictures` and `neighbours` show it, `page` puts it into
words, `app` answers the browser behind `guard`, and `serving` starts it all.
"""
