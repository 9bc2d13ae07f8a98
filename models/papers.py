"""The papers that the models come from, each once; `bibtex` is what `harness cite` prints."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A reference.

    Args:
        key: Key of its BibTeX entry: first author, year, a word of the title.
        authors: "Family, Given and Family, Given", as BibTeX wants them.
        venue: Journal, conference, or "" for a preprint and a page.
        arxiv: Number on arXiv; "" where there is none.
        doi: Digital object identifier; "" where there is none.
    """

    key: str
    authors: str
    title: str
    venue: str
    year: int
    arxiv: str = ""
    doi: str = ""
    url: str = ""

    @property
    def link(self) -> str:
        """Where it can be read."""
        if self.url:
            return self.url
        return (
            f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else f"https://doi.org/{self.doi}"
        )

    @property
    def short(self) -> str:
        """First author and year, such as "He 2016"."""
        return f"{self.authors.partition(',')[0].strip('{}')} {self.year}"

    def bibtex(self) -> str:
        """Return the entry."""
        journal = any(word in self.venue for word in ("Journal", "IEEE", "Computing", "Annals"))
        kind = "article" if journal else "inproceedings" if self.venue else "misc"
        place = {"article": "journal", "inproceedings": "booktitle"}.get(kind, "")
        fields = {"author": self.authors, "title": f"{{{self.title}}}"}
        if place:
            fields[place] = self.venue
        fields["year"] = str(self.year)
        if self.arxiv:
            fields |= {"eprint": self.arxiv, "archiveprefix": "arXiv"}
        if self.doi:
            fields["doi"] = self.doi
        fields["url"] = self.link
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@{kind}{{{self.key},\n{lines}\n}}"


HE_2016 = Paper(
    "he2016deep",
    "He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
    "Deep Residual Learning for Image Recognition",
    "Conference on Computer Vision and Pattern Recognition",
    2016,
    arxiv="1512.03385",
)
DIFFUSIFYNET = Paper(
    "diffusify2026physics",
    "{DiffusifyNet}",
    "When Physics Teaches Vision",
    "",
    2026,
    url="https://diffusify.in",
)
PERONA_MALIK = Paper(
    "perona1990scale",
    "Perona, Pietro and Malik, Jitendra",
    "Scale-space and edge detection using anisotropic diffusion",
    "IEEE Transactions on Pattern Analysis and Machine Intelligence",
    1990,
    doi="10.1109/34.56205",
)
MISHRA_2020 = Paper(
    "mishra2020learning",
    "Mishra, Shlok and Shah, Anshul and Bansal, Ankan and Anjaria, Janit and Choi, Jonghyun and "
    "Shrivastava, Abhinav and Sharma, Abhishek and Jacobs, David",
    "Learning visual representations for transfer learning by suppressing texture",
    "",
    2020,
    arxiv="2011.01901",
)
AUGMIX = Paper(
    "hendrycks2020augmix",
    "Hendrycks, Dan and Mu, Norman and Cubuk, Ekin D. and Zoph, Barret and Gilmer, Justin and "
    "Lakshminarayanan, Balaji",
    "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty",
    "International Conference on Learning Representations",
    2020,
    arxiv="1912.02781",
)
VASWANI_2017 = Paper(
    "vaswani2017attention",
    "Vaswani, Ashish and Shazeer, Noam and Parmar, Niki and Uszkoreit, Jakob and Jones, Llion and "
    "Gomez, Aidan N. and Kaiser, Lukasz and Polosukhin, Illia",
    "Attention Is All You Need",
    "Advances in Neural Information Processing Systems",
    2017,
    arxiv="1706.03762",
)
CHEN_2018 = Paper(
    "chen2018neural",
    "Chen, Ricky T. Q. and Rubanova, Yulia and Bettencourt, Jesse and Duvenaud, David",
    "Neural Ordinary Differential Equations",
    "Advances in Neural Information Processing Systems",
    2018,
    arxiv="1806.07366",
)
DUPONT_2019 = Paper(
    "dupont2019augmented",
    "Dupont, Emilien and Doucet, Arnaud and Teh, Yee Whye",
    "Augmented Neural ODEs",
    "Advances in Neural Information Processing Systems",
    2019,
    arxiv="1904.01681",
)
KELLY_2020 = Paper(
    "kelly2020learning",
    "Kelly, Jacob and Bettencourt, Jesse and Johnson, Matthew James and Duvenaud, David",
    "Learning Differential Equations that are Easy to Solve",
    "Advances in Neural Information Processing Systems",
    2020,
    arxiv="2007.04504",
)
PAL_2021 = Paper(
    "pal2021opening",
    "Pal, Avik and Ma, Yingbo and Shah, Viral and Rackauckas, Christopher",
    "Opening the Blackbox: Accelerating Neural Differential Equations by Regularizing Internal "
    "Solver Heuristics",
    "International Conference on Machine Learning",
    2021,
    arxiv="2105.03918",
)
RUTHOTTO_2019 = Paper(
    "ruthotto2019deep",
    "Ruthotto, Lars and Haber, Eldad",
    "Deep Neural Networks Motivated by Partial Differential Equations",
    "Journal of Mathematical Imaging and Vision",
    2019,
    arxiv="1804.04272",
    doi="10.1007/s10851-019-00903-1",
)
CHANG_2018 = Paper(
    "chang2018reversible",
    "Chang, Bo and Meng, Lili and Haber, Eldad and Ruthotto, Lars and Begert, David and Holtham, "
    "Elliot",
    "Reversible Architectures for Arbitrarily Deep Residual Neural Networks",
    "AAAI Conference on Artificial Intelligence",
    2018,
    arxiv="1709.03698",
)
LIU_2025 = Paper(
    "liu2025deep",
    "Liu, Yongshuai and Wang, Lianfang and Qin, Kuilin and Zhang, Qinghua and Wang, Faqiang and "
    "Cui, Li and Liu, Jun and Duan, Yuping and Zeng, Tieyong",
    "Deep Neural Networks Inspired by Differential Equations",
    "",
    2025,
    arxiv="2510.09685",
)
ZHANG_2017 = Paper(
    "zhang2017polynet",
    "Zhang, Xingcheng and Li, Zhizhong and Loy, Chen Change and Lin, Dahua",
    "PolyNet: A Pursuit of Structural Diversity in Very Deep Networks",
    "Conference on Computer Vision and Pattern Recognition",
    2017,
    arxiv="1611.05725",
)
LARSSON_2017 = Paper(
    "larsson2017fractalnet",
    "Larsson, Gustav and Maire, Michael and Shakhnarovich, Gregory",
    "FractalNet: Ultra-Deep Neural Networks without Residuals",
    "International Conference on Learning Representations",
    2017,
    arxiv="1605.07648",
)
GOMEZ_2017 = Paper(
    "gomez2017reversible",
    "Gomez, Aidan N. and Ren, Mengye and Urtasun, Raquel and Grosse, Roger B.",
    "The Reversible Residual Network: Backpropagation Without Storing Activations",
    "Advances in Neural Information Processing Systems",
    2017,
    arxiv="1707.04585",
)
LU_2018 = Paper(
    "lu2018beyond",
    "Lu, Yiping and Zhong, Aoxiao and Li, Quanzheng and Dong, Bin",
    "Beyond Finite Layer Neural Networks: Bridging Deep Architectures and Numerical Differential "
    "Equations",
    "International Conference on Machine Learning",
    2018,
    arxiv="1710.10121",
)
ZHU_2022 = Paper(
    "zhu2022convolutional",
    "Zhu, Mai and Chang, Bo and Fu, Chong",
    "Convolutional Neural Networks combined with Runge-Kutta Methods",
    "Neural Computing and Applications",
    2022,
    arxiv="1802.08831",
    doi="10.1007/s00521-022-07785-2",
)
HUANG_2016 = Paper(
    "huang2016deep",
    "Huang, Gao and Sun, Yu and Liu, Zhuang and Sedra, Daniel and Weinberger, Kilian",
    "Deep Networks with Stochastic Depth",
    "European Conference on Computer Vision",
    2016,
    arxiv="1603.09382",
)
GASTALDI_2017 = Paper(
    "gastaldi2017shake",
    "Gastaldi, Xavier",
    "Shake-Shake regularization",
    "",
    2017,
    arxiv="1705.07485",
)
LIU_2019 = Paper(
    "liu2019neural",
    "Liu, Xuanqing and Xiao, Tesi and Si, Si and Cao, Qin and Kumar, Sanjiv and Hsieh, Cho-Jui",
    "Neural SDE: Stabilizing Neural ODE Networks with Stochastic Noise",
    "",
    2019,
    arxiv="1906.02355",
)
WANG_COIN = Paper(
    "wang2024convection",
    "Wang, Tangjun and Bao, Chenglong and Shi, Zuoqiang",
    "Convection-Diffusion Equation: A Theoretically Certified Framework for Neural Networks",
    "",
    2024,
    arxiv="2403.15726",
)
WANG_DIFF = Paper(
    "wang2024diffusion",
    "Wang, Tangjun and Dou, Zehao and Bao, Chenglong and Shi, Zuoqiang",
    "Diffusion Mechanism in Residual Neural Network: Theory and Applications",
    "IEEE Transactions on Pattern Analysis and Machine Intelligence",
    2024,
    arxiv="2105.03155",
)
KARRAS_2022 = Paper(
    "karras2022elucidating",
    "Karras, Tero and Aittala, Miika and Aila, Timo and Laine, Samuli",
    "Elucidating the Design Space of Diffusion-Based Generative Models",
    "Advances in Neural Information Processing Systems",
    2022,
    arxiv="2206.00364",
)
LIPMAN_2023 = Paper(
    "lipman2023flow",
    "Lipman, Yaron and Chen, Ricky T. Q. and Ben-Hamu, Heli and Nickel, Maximilian and Le, Matt",
    "Flow Matching for Generative Modeling",
    "International Conference on Learning Representations",
    2023,
    arxiv="2210.02747",
)
LI_2023 = Paper(
    "li2023your",
    "Li, Alexander C. and Prabhudesai, Mihir and Duggal, Shivam and Brown, Ellis and Pathak, "
    "Deepak",
    "Your Diffusion Model is Secretly a Zero-Shot Classifier",
    "International Conference on Computer Vision",
    2023,
    arxiv="2303.16203",
)
CHEN_2024 = Paper(
    "chen2024robust",
    "Chen, Huanran and Dong, Yinpeng and Wang, Zhengyi and Yang, Xiao and Duan, Chengqi and Su, "
    "Hang and Zhu, Jun",
    "Robust Classification via a Single Diffusion Model",
    "International Conference on Machine Learning",
    2024,
    arxiv="2305.15241",
)
PARZEN_1962 = Paper(
    "parzen1962estimation",
    "Parzen, Emanuel",
    "On Estimation of a Probability Density Function and Mode",
    "Annals of Mathematical Statistics",
    1962,
    doi="10.1214/aoms/1177704472",
)
COVER_1967 = Paper(
    "cover1967nearest",
    "Cover, Thomas M. and Hart, Peter E.",
    "Nearest Neighbor Pattern Classification",
    "IEEE Transactions on Information Theory",
    1967,
    doi="10.1109/TIT.1967.1053964",
)
FISHER_1936 = Paper(
    "fisher1936use",
    "Fisher, Ronald A.",
    "The Use of Multiple Measurements in Taxonomic Problems",
    "Annals of Eugenics",
    1936,
    doi="10.1111/j.1469-1809.1936.tb02137.x",
)
