extern "C" int ctoml_x(void){return 0;}
