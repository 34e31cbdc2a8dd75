"""English words with a split of their own: contractions, abbreviations, smileys.

The facts are those of spaCy 3.8 (lang/en and lang/tokenizer_exceptions.py, MIT licence, Explosion
AI), because datatrove counts the words of its blank English model; `benchmarks/rules.py` proves
equality on real text, token by token.
"""

_ABBREVIATIONS = """
' \\") <space> '' C++ \\t \\n — 'S 's ‘S ‘s and/or w/o 're 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz
'Cuz 'bout ma'am Ma'am o'clock O'clock lovin' Lovin' lovin Lovin havin' Havin' havin Havin Mt. Ak.
Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul.
Jun. Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev.
Nov. Oct. Okla. Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis. 'd a.m. Adm. Bros. co. Co. Corp. D.C.
Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. p.m.
Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s. em 'em ll 'll nuff 'nuff
"""
_SMILEYS = r"""
:) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-;
:( :-( :(( :-(( :((( :-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p
:-p :O :-O :o :-o :0 :-0 :() >:o :* :-* :3 :-3 =3 :> :-> :X :-X :x :-x :D :-D ;D ;-D =D xD XD xDD
XDD 8D 8-D ^_^ ^__^ ^___^ >.< >.> <.< ._. ;_; -_- -__- v.v V.V v_v V_V o_o o_O O_o O_O 0_o o_0 0_0
o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 <333 </3 (^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ)
¯\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>
"""
_SPLIT = """
y'|all y|all how|'d|'y How|'d|'y not|'ve not|ve Not|'ve Not|ve can|not Can|not gon|na Gon|na got|ta
Got|ta let|'s Let|'s c'm|on C'm|on
"""
_UNSPLIT = "Ill ill Its its Hell hell Shell shell Shed shed were Were Well well Whore whore"
_ENDINGS = {  # of these words, each with and without its apostrophes
    "'m 'm|a": "i",
    "'ll 'll|'ve 'd 'd|'ve": "i you he she it we they who what when where why how there that this"
    " these those",
    "'ve": "i you we they who what when where why how there these those could might must should"
    " would",
    "'re": "you we they who what when where why how there these those",
    "'s": "he she it who what when where why how there that this",
    "n't n't|'ve": "ca could do does did had may might must need ought sha should wo would",
    "n't": "ai are is was were have has dare",
}


def exceptions() -> dict[str, tuple[str, ...]]:
    """The pieces of every word that the general rules would split otherwise."""
    found: dict[str, tuple[str, ...]] = {}
    found |= {word: (word,) for word in (_ABBREVIATIONS + _SMILEYS).split()}
    found |= {f"{letter}.": (f"{letter}.",) for letter in "abcdefghijklmnopqrstuvwxyzäöü"}
    found |= {f"°{unit}.": ("°", unit, ".") for unit in "cfkCFK"}
    for word in ("doin", "goin", "nothin", "nuthin", "ol", "somethin"):
        for form in (word, word.title()):
            found |= {form: (form,), f"{form}'": (f"{form}'",)}
    for hour in range(1, 13):
        for half in ("a.m.", "am", "p.m.", "pm"):
            found[f"{hour}{half}"] = (str(hour), half)
    for pieces in (tuple(joined.split("|")) for joined in _SPLIT.split()):
        found["".join(pieces)] = pieces
    for endings, words in _ENDINGS.items():
        for word in words.split():
            for ending in endings.split():
                found |= _contractions(word, ending.split("|"))
    for word in [word for word in found if "'" in word]:
        found[word.replace("'", "’")] = tuple(part.replace("'", "’") for part in found[word])
    return {word: pieces for word, pieces in found.items() if word not in _UNSPLIT.split()}


def _contractions(word: str, ending: list[str]) -> dict[str, tuple[str, ...]]:
    bare = [piece.replace("'", "") for piece in ending]
    made = ((form, *pieces) for form in (word, word.title()) for pieces in (ending, bare))
    return {"".join(pieces): pieces for pieces in made}
